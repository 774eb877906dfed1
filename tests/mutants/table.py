"""The mutants. A text may move about in its file, but stands in it once: tests/test_mutants.py sees to that.

Choose a text that is short and says what the line decides, so that the table is easy to mend when the source changes.
"""

from __future__ import annotations

from dataclasses import dataclass

KEYS = "tests/test_every_key.py"


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in `file`; with `new` in its place, pytest on `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """Files, nodes and `-k`, as on pytest's command line."""


DOA = "agent/perceiving/localization/doa.py"
PHASES = "agent/phase_differences.py"
WAVES = "agent/plane_waves.py"
ARRAY = "agent/health/array_check.py"
SOURCE = "agent/perceiving/localization/source.py"
PERCEPTION = "agent/perceiving/perception.py"
SCORING = "agent/perceiving/alerts/scoring.py"
BOOK = "agent/perceiving/alerts/book.py"
WINDOWER = "agent/windows/windower.py"
ROWS = "agent/windows/row_buffer.py"
IMAGES = "agent/windows/image_buffer.py"
REORDERING = "agent/windows/reordering.py"
CACHE = "agent/embedding/cache.py"
RING = "agent/capture/ring.py"
TIMELINE = "drivers/row_timeline.py"
FILTERS = "agent/events/filters.py"
BUS = "agent/events/bus.py"
OUTBOX = "agent/events/outbox.py"
RETENTION = "agent/log/recording/retention.py"
CLIPS = "agent/run/recording.py"
SAMPLER = "agent/run/sampler.py"
RUN = "agent/run/run.py"
BUILD = "agent/run/build.py"
PARSE, SENSORS = "agent/config/parse.py", "agent/config/sensors.py"
WEIGHTS = "agent/embedding/weights.py"
VIDEO = "common/media/video.py"
SOUND = "common/media/sound.py"

MUTANTS = (
    # Direction of arrival.
    Mutant(
        "order: messages that were let go are not read again",
        "agent/log/ordering.py",
        "return None if limit is None else",
        "return None if limit else",
        "tests/test_log_ordering.py -k read_again",
    ),
    Mutant(
        "order: messages beside chunks are overlooked",
        "agent/log/seeking.py",
        "elif opcode == Opcode.MESSAGE and length >= MESSAGE_HEAD.size:",
        "elif opcode == Opcode.CHUNK:",
        "tests/test_log_ordering.py -k beside_chunks",
    ),
    Mutant(
        "bag: a clock that was set back is not noticed",
        "agent/exchange/stamp_clock.py",
        "if self._judges and not self._fits(t_ns, delay_ns):",
        "if self._judges and False:",
        "tests/test_bag_faults.py -k step_of_the_clock",
    ),
    Mutant(
        "bag: acceleration is held between messages",
        "agent/exchange/split_imu.py",
        "along = (at_ns - before_ns) / (t_ns - before_ns) if at_ns > before_ns else 0.0",
        "along = 0.0",
        "tests/test_bag_faults.py -k two_topics",
    ),
    Mutant(
        "shard: the end of a tar is not looked for",
        "models/datasets/dataset.py",
        "if file.read(_END_BYTES) != bytes(_END_BYTES):",
        "if False:",
        "tests/test_dataset.py -k cut_off_anywhere",
    ),
    Mutant(
        "units: too small is fine",
        "common/usual_values.py",
        "self.too_small if value < self.lowest else ",
        "",
        "tests/test_extreme_values.py -k guess",
    ),
    Mutant(
        "doa: left for right",
        WAVES,
        "apart_m = mics_m[pairs.first] - mics_m[pairs.second]",
        "apart_m = mics_m[pairs.second] - mics_m[pairs.first]",
        "tests/test_doa.py -k open_field",
    ),
    Mutant(
        "doa: phase not whitened",
        PHASES,
        "spectra * (1.0 / np.maximum(magnitude, 1e-12))",
        "spectra",
        "tests/test_doa.py",
    ),
    Mutant(
        "doa: frames not weighted by energy",
        PHASES,
        "weight = (magnitude**2).sum(axis=0)",
        "weight = np.ones_like(magnitude).sum(axis=0)",
        "tests/test_doa.py",
    ),
    Mutant(
        "doa: not refined between the grid's points",
        DOA,
        "return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))",
        "return 0.0",
        "tests/test_doa.py -k open_field",
    ),
    Mutant(
        "doa: two sources taken for one",
        DOA,
        "if unresolved and not in_the_open and self._are_sources(measured, best, two, gain):",
        "if False:",
        "tests/test_doa.py -k two_sources",
    ),
    Mutant(
        "doa: no doubt where a second wave explains much",
        DOA,
        "doubt = DOUBT * gain",
        "doubt = 0.0",
        "tests/test_doa.py -k two_sources",
    ),
    Mutant(
        "array check: told at the first evidence",
        ARRAY,
        "self.certain = self.sum == CERTAIN",
        "self.certain = self.sum > 0",
        "tests/test_array_check.py -k four_seconds",
    ),
    # The source of a tick.
    Mutant(
        "source: columns run the other way",
        SOURCE,
        "np.degrees(np.arctan((width / 2 - x) / focal_px))",
        "np.degrees(np.arctan((x - width / 2) / focal_px))",
        "tests/test_source.py",
    ),
    Mutant(
        "source: the floor rises under a source",
        SOURCE,
        "rises=direction is None",
        "rises=True",
        "tests/test_perceived_source.py",
    ),
    Mutant(
        "source: direction of a fixed stretch",
        PERCEPTION,
        "stretch_s=config.hop_ns / 1e9",
        "stretch_s=0.5",
        "tests/test_perceived_source.py",
    ),
    Mutant(
        "source: scale of audio fixed",
        PERCEPTION,
        "audio_scale=audio_scale",
        "audio_scale=20.0",
        "tests/test_perceived_source.py",
    ),
    Mutant(
        "source: field of view ignored",
        PERCEPTION,
        "hfov_deg=camera.hfov_deg if camera else None",
        "hfov_deg=None",
        f"{KEYS} -k hfov_deg",
    ),
    Mutant(
        "source: whatever stands out is in view",
        SOURCE,
        "UNLIKE if probability < IN_VIEW_FROM",
        "UNLIKE if probability < 0",
        "tests/test_source.py",
    ),
    Mutant(
        "source: steady sound is looked for",
        SOURCE,
        "            if meaningless:",
        "            if not meaningless:",
        "tests/test_source.py",
    ),
    Mutant(
        "steadiness: a change within the window is never one",
        "agent/perceiving/steadiness.py",
        "    before, after = _parts(powers, bands)",
        "    before, after = powers[:0], powers",
        "tests/test_steadiness.py",
    ),
    # Scores.
    Mutant(
        "scoring: steady sound is scored",
        PERCEPTION,
        'scores.without("audio", ~self._asks_for_quiet.rows)',
        "scores",
        "tests/test_meaningless_sound.py",
    ),
    Mutant(
        "scoring: scales of the configuration ignored",
        PERCEPTION,
        "model.logit_scales(config.alerts.logit_scales)",
        "model.logit_scales({})",
        f"{KEYS} -k logit_scales",
    ),
    Mutant("scoring: dense ignored", PERCEPTION, "dense=config.alerts.dense", "dense=False", f"{KEYS} -k dense"),
    Mutant(
        "scoring: background of the configuration ignored",
        PERCEPTION,
        "config.background_prompts or BACKGROUND",
        "BACKGROUND",
        f"{KEYS} -k background",
    ),
    Mutant(
        "scoring: one patch is enough",
        SCORING,
        "_AGREEING_PATCHES = 2",
        "_AGREEING_PATCHES = 1",
        "tests/test_scoring.py",
    ),
    Mutant(
        "scoring: held against all rivals",
        SCORING,
        "exponents @ chosen.T.astype(np.float64)",
        "exponents @ np.ones_like(chosen.T, np.float64)",
        "tests/test_scoring.py",
    ),
    Mutant(
        "scoring: the worst of several sensors",
        SCORING,
        "part.max(axis=0)",
        "part.min(axis=0)",
        "tests/test_scoring.py",
    ),
    Mutant(
        "scoring: the slope of patches ignored",
        SCORING,
        "logits[i] += patch_slope * margins.patches",
        "logits[i] += margins.patches",
        "tests/test_calibration.py -k patches",
    ),
    Mutant(
        "calibration: other weights are served",
        "models/files/calibration.py",
        "if found.weights != content_hash:",
        "if not found.weights:",
        "tests/test_calibration.py -k other_weights",
    ),
    Mutant(
        "calibration: a strange query takes the nearest concept",
        "models/files/calibration.py",
        "cosines[nearest] >= NEAR_COSINE",
        "cosines[nearest] >= -1",
        "tests/test_calibration.py -k strange",
    ),
    # The book of alerts.
    Mutant(
        "book: thresholds swapped",
        BOOK,
        'np.where(was_on, state["threshold_off"], state["threshold_on"])',
        'np.where(was_on, state["threshold_on"], state["threshold_off"])',
        f"{KEYS} -k threshold",
    ),
    Mutant("book: no minimum duration", BOOK, '>= state["min_duration_ns"]', ">= 0", f"{KEYS} -k min_duration"),
    Mutant("book: no cool-down", BOOK, "t_ns + round(query.cooldown_s * 1e9)", "t_ns", f"{KEYS} -k cooldown"),
    Mutant(
        "book: every modality may carry",
        BOOK,
        '~np.isnan(values) & state["allowed"]',
        "~np.isnan(values)",
        f"{KEYS} -k queries.modalities",
    ),
    Mutant(
        "book: a missing window ends an alert",
        BOOK,
        'was_on & (state["missed_ns"] <= hold_ns)',
        "was_on & False",
        "tests/test_alerts.py",
    ),
    # Windows.
    Mutant(
        "windows: rows end one late",
        ROWS,
        "stop = self._count - round((end_ns - t_ns) * self._timeline.measured_hz / 1e9)",
        "stop = 1 + self._count - round((end_ns - t_ns) * self._timeline.measured_hz / 1e9)",
        "tests/test_windows.py",
    ),
    Mutant(
        "windows: rows of a wrong rate keep the nominal one",
        TIMELINE,
        "self._stretch = self._meter.spacing",
        "self._stretch = 1.0",
        "tests/test_row_spacing.py",
    ),
    Mutant(
        "windows: a hole of a stream in any order is not waited for",
        REORDERING,
        "sample.t_ns + self._lateness_ns)",
        "0)",
        "tests/test_reordering.py",
    ),
    Mutant(
        "windows: a wrong stamp is believed",
        REORDERING,
        "yield self._passed(replace(held, t_ns=self._reached_ns))",
        "yield self._passed(held)",
        "tests/test_reordering.py -k wrong",
    ),
    Mutant(
        "health: pictures lag the other way",
        "agent/health/motion_lag.py",
        "(t - end_ns) / 1e9 - LAGS_S",
        "(t - end_ns) / 1e9 + LAGS_S",
        "tests/test_motion_lag.py -k stamped",
    ),
    Mutant(
        "motion: rows are held beyond the ends",
        "models/preprocess/motion.py",
        "weights - 2 * (before + after), ends]",
        "weights - before - after, ends / 2]",
        "tests/test_preprocess_imu.py -k between",
    ),
    Mutant(
        "windows: known losses ignored",
        TIMELINE,
        "if lost > known and abs(ahead - lost) <= tolerance:",
        "if False:",
        "tests/test_lost_and_repeated.py",
    ),
    Mutant(
        "windows: holes of audio are filled whatever their size",
        ROWS,
        "return filled > LARGEST_FILLED_SHARE",
        "return False",
        "tests/test_windows.py",
    ),
    Mutant(
        "windows: the older frame is the newest",
        IMAGES,
        "wanted_ns = t_ns - self._window_ns",
        "wanted_ns = t_ns",
        f"{KEYS} -k vision_s",
    ),
    Mutant(
        "windows: a stale picture counts",
        IMAGES,
        "if t_ns - newest.t_ns > self._silence_ns:",
        "if False:",
        "tests/test_windows.py",
    ),
    Mutant(
        "windows: lateness ignored",
        WINDOWER,
        "else t_ns + self.lateness_ns",
        "else t_ns",
        f"{KEYS} -k max_lateness",
    ),
    Mutant(
        "windows: duplicates are taken",
        WINDOWER,
        "if sample.t_ns in self._stamps:",
        "if False:",
        "tests/test_lost_and_repeated.py",
    ),
    Mutant(
        "windows: stamps of the far future are taken",
        WINDOWER,
        "if end_ns > latest_ns:",
        "if False:",
        "tests/test_windows.py",
    ),
    Mutant(
        "windows: values that are not finite are let through",
        "agent/windows/validity.py",
        'return "invalid: not finite"',
        'return ""',
        "tests/test_windows.py",
    ),
    # What was embedded already.
    Mutant(
        "cache: pieces are not compared",
        CACHE,
        "return a.rate_hz == b.rate_hz and _same_values(a.data, b.data)",
        "return True",
        "tests/test_cache.py tests/test_embedder.py",
    ),
    Mutant(
        "cache: a glance is enough",
        CACHE,
        ".all()) and np.array_equal(a, b)",
        ".all())",
        "tests/test_cache.py tests/test_embedder.py",
    ),
    Mutant(
        "cache: texts are kept for ever",
        CACHE,
        "while len(self._vectors) > self._room:",
        "while False:",
        "tests/test_cache.py",
    ),
    # The clock of rows, and the ring.
    Mutant(
        "timeline: no late block is ever a gap",
        TIMELINE,
        "missing, self._late = min(self._late), []",
        "missing, self._late = 0, []",
        "tests/test_row_clock.py",
    ),
    Mutant(
        "timeline: one block that arrives late is a gap",
        TIMELINE,
        "return Rules(gap_rows, 3,",
        "return Rules(gap_rows, 1,",
        "tests/test_row_clock.py",
    ),
    Mutant(
        "timeline: the clock is not followed",
        TIMELINE,
        "moved_ns = round(gain * near_ns)",
        "moved_ns = 0",
        "tests/test_row_clock.py",
    ),
    Mutant(
        "timeline: jitter that was seen is not tolerated",
        TIMELINE,
        "max(JITTER_MARGIN * self._jitter, ",
        "max(0.0, ",
        "tests/test_row_timeline.py",
    ),
    Mutant(
        "timeline: rows of a block that overlaps never count",
        TIMELINE,
        "max(0, gap + rows)",
        "0",
        "tests/test_row_timeline.py",
    ),
    Mutant(
        "health: rows known to be lost are no gap",
        "agent/health/health.py",
        "gap(sample.t_ns, rows, sample.lost)",
        "gap(sample.t_ns, rows)",
        "tests/test_row_timeline.py",
    ),
    Mutant(
        "ring: what was overwritten is read",
        RING,
        "if self._words[at + _INDEX] != index:",
        "if False:",
        "tests/test_ring.py",
    ),
    Mutant("ring: what is kept is overwritten", RING, "self._held.add(slot)", "pass", "tests/test_ring.py"),
    Mutant(
        "ring: what is kept is overwritten by the other process",
        RING,
        "            self._held.add(slot)\n",
        "            self._held.add(slot)\n            self._unlock(slot)\n",
        "tests/test_ring.py",
    ),
    Mutant(
        "ring: a slot that is left half-filled is read",
        RING,
        "self._words[at + _INDEX] = _NO_INDEX",
        "pass",
        "tests/test_ring.py",
    ),
    Mutant(
        "ring: skipped samples are not counted",
        RING,
        "self.superseded += pending - 1",
        "self.superseded += 0",
        "tests/test_ring.py tests/test_capture.py -k 'newest or superseded or latest'",
    ),
    # Subscribers.
    Mutant(
        "filters: rate ignored",
        FILTERS,
        "if last_ns is not None and 0 <= capture_ns - last_ns < self._period_ns:",
        "if False:",
        "tests/test_events.py tests/test_filters.py",
    ),
    Mutant(
        "filters: queries ignored",
        FILTERS,
        "if self._query_ids and alert.query_id not in self._query_ids:",
        "if False:",
        "tests/test_events.py tests/test_filters.py",
    ),
    Mutant(
        "bus: history without bound",
        BUS,
        "while len(self._history) > self._history_events or",
        "while False and",
        "tests/test_bus.py",
    ),
    Mutant(
        "outbox: the newest is dropped",
        OUTBOX,
        "self._drop(*self._others.popleft(), SLOW)",
        "self._drop(*self._others.pop(), SLOW)",
        "tests/test_outbox.py",
    ),
    # What is kept.
    Mutant(
        "retention: newest first",
        RETENTION,
        "return sorted(files)",
        "return sorted(files, reverse=True)",
        f"{KEYS} -k keep_gb",
    ),
    Mutant("retention: age ignored", RETENTION, "age_s > rules.max_age_s", "age_s > 1e12", f"{KEYS} -k keep_days"),
    Mutant(
        "retention: protected files go",
        RETENTION,
        "path.name.endswith(KEEP_SUFFIX)",
        "False",
        "tests/test_log_retention.py",
    ),
    Mutant(
        "clips: before and after swapped",
        CLIPS,
        "before_s=saved.before_s,",
        "before_s=saved.after_s,",
        f"{KEYS} -k before_s",
    ),
    Mutant("clips: after is before", CLIPS, "after_s=saved.after_s,", "after_s=saved.before_s,", f"{KEYS} -k after_s"),
    # Drivers.
    Mutant("imu: axes transposed", "drivers/imu/rows.py", "device @ axes.T", "device @ axes", f"{KEYS} -k axes"),
    Mutant(
        "imu: latency ignored",
        "drivers/imu/serial_line.py",
        "Sample(t_ns - self._latency_ns",
        "Sample(t_ns",
        f"{KEYS} -k 'imu and latency'",
    ),
    Mutant(
        "microphone: latency ignored",
        "drivers/microphone.py",
        "Sample(t_ns - self._latency_ns",
        "Sample(t_ns",
        f"{KEYS} -k 'microphone and latency'",
    ),
    Mutant(
        "microphone: all channels are taken",
        "drivers/microphone.py",
        "rows = rows.take(self._options.use_channels, axis=1)",
        "pass",
        f"{KEYS} -k 'microphone and use_channels'",
    ),
    Mutant(
        "microphone: an ADC time is believed at once",
        "drivers/adc_time.py",
        "self._kept_s >= PROOF_S",
        "True",
        "tests/test_microphone.py -k AdcTime",
    ),
    Mutant(
        "row clock: the mean of late blocks is the truth",
        "drivers/row_clock.py",
        "min(t_ns, earliest_ns)",
        "t_ns",
        "tests/test_row_clock.py",
    ),
    Mutant(
        "imu: anybody can open the port",
        "drivers/imu/serial_line.py",
        "termios.TIOCEXCL",
        "termios.TIOCNXCL",
        "tests/test_imu_wit.py -k nobody_else",
    ),
    Mutant(
        "capture: bad data alone is told of too late",
        "agent/capture/process.py",
        "silent_ns > BAD_DATA_S * 1e9 and not told",
        "False",
        "tests/test_imu_wit.py -k before_it_connects",
    ),
    Mutant(
        "capture: a failure is said again for every digit",
        "agent/capture/news.py",
        '_VARYING.sub("#", message)',
        "message",
        "tests/test_news.py",
    ),
    Mutant(
        "capture: a device of another rate is opened again at once",
        "agent/capture/process.py",
        "mismatch_ns - before_ns < MISMATCH_S * 1e9",
        "False",
        "tests/test_capture.py -k another_rate",
    ),
    Mutant(
        "import: a message that is there twice is two rows",
        "agent/exchange/bag_topics.py",
        "stamp.stamp_ns and before == self._last_row",
        "False",
        "tests/test_bag_faults.py -k twice",
    ),
    Mutant(
        "thermal: a shutter that closes is silence",
        "agent/streams.py",
        " + stream.pause_s",
        "",
        "tests/test_thermal.py",
    ),
    Mutant(
        "http: the first challenge alone is read",
        "drivers/http_access.py",
        "headers.get_all(auth_header, [])",
        "headers.get_all(auth_header, [])[:1]",
        "tests/test_http_camera.py -k challenge",
    ),
    Mutant(
        "jpeg: half a picture is whole",
        "drivers/image_file.py",
        "if np.array_equal(first, second):",
        "if True:",
        "tests/test_codec.py -k end_marker",
    ),
    Mutant(
        "camera: latency ignored",
        "drivers/camera.py",
        "Sample(t_ns - self._latency_ns",
        "Sample(t_ns",
        f"{KEYS} -k 'camera and latency'",
    ),
    # The run, and what of the configuration reaches it.
    Mutant(
        "sampler: a lost sensor is waited for",
        SAMPLER,
        'if report.state in ("lost", "ended"):',
        'if report.state == "ended":',
        "tests/test_lost_sensor.py",
    ),
    Mutant(
        "bus: events that are not finite are logged",
        BUS,
        "if field := non_finite(event):",
        "if (field := non_finite(event)) and self._refuse(field):",
        "tests/test_live_recording.py",
    ),
    Mutant(
        "run: a live recording lacks its model",
        RUN,
        "self.recorder.write_model(model.name)",
        "pass",
        "tests/test_live_recording.py",
    ),
    Mutant("run: leave_out ignored", BUILD, "leave_out=leave_out", "leave_out=True", f"{KEYS} -k leave_out"),
    Mutant(
        "live: the newest of a full queue goes",
        "agent/policy.py",
        "yield queue.popleft()",
        "yield queue.pop()",
        "tests/test_worker.py",
    ),
    Mutant(
        "config: lateness ignored",
        SENSORS,
        "max_lateness_s=settings.max_lateness_s",
        "max_lateness_s=0.2",
        f"{KEYS} -k max_lateness",
    ),
    Mutant(
        "config: queue depth ignored",
        SENSORS,
        "queue_depth=settings.queue_depth",
        "queue_depth=None",
        f"{KEYS} -k sensors.queue_depth",
    ),
    Mutant(
        "config: whether it is logged is ignored", SENSORS, "logged=settings.logged", "logged=True", f"{KEYS} -k logged"
    ),
    Mutant("config: quality of JPEG ignored", PARSE, "settings.jpeg_quality", "90", f"{KEYS} -k jpeg"),
    Mutant("model: compile ignored", WEIGHTS, "compile=settings.compile", "compile=False", f"{KEYS} -k model.compile"),
    Mutant(
        "model: CUDA graphs ignored",
        WEIGHTS,
        "cuda_graphs=settings.cuda_graphs",
        "cuda_graphs=False",
        f"{KEYS} -k cuda_graphs",
    ),
    Mutant(
        "model: dtype ignored",
        WEIGHTS,
        "device, dtype = settings.device, settings.dtype",
        'device, dtype = settings.device, "float32"',
        f"{KEYS} -k dtype",
    ),
    # Files of media.
    Mutant(
        "video: the start of a track is dropped",
        VIDEO,
        "return self._start_ns + round(",
        "return round(",
        "tests/test_video_files.py -k begins_late",
    ),
    Mutant(
        "video: a seek is not checked",
        VIDEO,
        "if own_ns <= t_ns:",
        "if True:",
        "tests/test_video_files.py -k place_in_the_file",
    ),
    Mutant(
        "sound: soundfile seeks after every read",
        SOUND,
        "return False  # whatever the file can",
        "return True",
        "tests/test_sound_files.py -k blocks_of_an_mp3",
    ),
    Mutant(
        "sound: links of an Ogg file are not told apart",
        "common/media/ogg.py",
        "if first and not only_first_pages:",
        "if not begins:",
        "tests/test_sound_files.py -k joined_ogg",
    ),
    Mutant(
        "picture: deep grey is not scaled",
        "common/media/picture.py",
        "* (255 / _FULL_SCALE_16)",
        "* 1.0",
        "tests/test_media.py -k eight_bits",
    ),
    Mutant(
        "page: text of a query is not escaped",
        "agent/backtest/page/markup.py",
        "else escape(_clean(child))",
        "else _clean(child)",
        "tests/test_backtest_page.py -k stays_text",
    ),
    Mutant(
        "page: the highest score of a column is not drawn",
        "agent/backtest/page/reduction.py",
        "np.concatenate([lowest, highest])",
        "lowest",
        "tests/test_backtest_reduction.py -k no_peak",
    ),
    Mutant(
        "page: a hole is bridged",
        "agent/backtest/page/reduction.py",
        "> longest_ns) + 1",
        "< 0) + 1",
        "tests/test_backtest_reduction.py -k bridged",
    ),
    Mutant(
        "page: the slider compares with thresholds that the agent does not have",
        "agent/backtest/page/page.js",
        "Math.fround(threshold)",
        "threshold",
        "tests/test_backtest_page.py -k slider",
    ),
    Mutant(
        "page: a picture is made square",
        "agent/backtest/page/moments.py",
        "max(1, round(width * shrunk)), max(1, round(height * shrunk))",
        "MOST_SIDE, MOST_SIDE",
        "tests/test_backtest_moments.py -k ratio",
    ),
)
