"use strict";
// The page is whole without this script. With it, a threshold can be tried: the counts at each were made when the
// page was, by the logic that raises alerts, so that nothing is estimated here.
for (const section of document.querySelectorAll("section.query")) {
  const counts = JSON.parse(section.querySelector("script.counts").textContent);
  const tool = section.querySelector(".tool");
  const slider = tool.querySelector("input");
  const output = tool.querySelector("output");
  const show = () => {
    const at = Number(slider.value);
    const threshold = counts.thresholds[at];
    output.textContent = counts.says[at];
    slider.setAttribute("aria-valuetext", counts.says[at]);
    for (const line of section.querySelectorAll("line.level")) {
      const y = Number(line.dataset.top) + Number(line.dataset.height) * (1 - threshold);
      line.setAttribute("y1", y);
      line.setAttribute("y2", y);
    }
    for (const line of section.querySelectorAll("line.at")) {
      line.setAttribute("x1", `${100 * threshold}%`);
      line.setAttribute("x2", `${100 * threshold}%`);
    }
    for (const text of section.querySelectorAll("text.at")) {
      text.setAttribute("x", `${100 * threshold}%`);
      text.setAttribute("text-anchor", threshold >= 0.5 ? "end" : "start");
      text.textContent = `threshold ${Number(threshold.toPrecision(6))}`;
    }
    for (const moment of section.querySelectorAll(".moment")) {
      // Scores and thresholds are compared as float32, as the agent does.
      moment.classList.toggle("under", Math.fround(threshold) > Number(moment.dataset.peak));
    }
  };
  slider.addEventListener("input", show);
  tool.hidden = false;
  show();
}
