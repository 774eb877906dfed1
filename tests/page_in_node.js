// Runs the script of a page on the page's elements, of which it needs few properties, and tries every threshold.
"use strict";
const vm = require("vm");

class Element {
  constructor({ tag, attributes, text, children }) {
    Object.assign(this, { tag, attributes, textContent: text, listeners: {} });
    this.children = children.map((child) => new Element(child));
    this.hidden = "hidden" in attributes;
    this.value = attributes.value;
    const classes = new Set((attributes.class || "").split(" "));
    this.classList = {
      contains: (name) => classes.has(name),
      toggle: (name, on) => (on ? classes.add(name) : classes.delete(name)),
    };
    this.dataset = {};
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("data-")) this.dataset[name.slice(5)] = value;
    }
  }
  querySelectorAll(selector) {
    const [tag, name] = selector.split(".");
    const found = [];
    for (const child of this.children) {
      if ((!tag || child.tag === tag) && (!name || child.classList.contains(name))) found.push(child);
      found.push(...child.querySelectorAll(selector));
    }
    return found;
  }
  querySelector(selector) {
    return this.querySelectorAll(selector)[0];
  }
  setAttribute(name, value) {
    this.attributes[name] = String(value);
  }
  addEventListener(kind, listener) {
    this.listeners[kind] = listener;
  }
}

const { tree, script } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const page = new Element(tree);
vm.runInNewContext(script, { document: page });
const section = page.querySelector("section.query");
const slider = section.querySelector("input");
const states = [];
for (let at = 0; at <= Number(slider.attributes.max); at++) {
  slider.value = String(at);
  slider.listeners.input();
  const levels = section.querySelectorAll("line.level");
  states.push({
    hidden: section.querySelector("div.tool").hidden,
    says: section.querySelector("output").textContent,
    under: section.querySelectorAll(".moment").map((moment) => moment.classList.contains("under")),
    levels: levels.map((line) => (line.attributes.y1 - line.dataset.top) / line.dataset.height),
    uprights: [...section.querySelectorAll("line.at"), ...section.querySelectorAll("text.at")].map(
      (mark) => parseFloat(mark.attributes.x1 || mark.attributes.x)
    ),
  });
}
console.log(JSON.stringify(states));
