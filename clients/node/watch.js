// Prints what a sensebind agent perceives, one event a line.
//
//   npm install && node watch.js [host:port] [--count N] [--kind embedding|audio_source|alert|health|recording|model|query] ...
//
// It needs no Python: the messages are loaded from protos/*.proto. Each event is acknowledged when it is printed, so a
// terminal that stands still gets only a few more.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** Events in transit at a time. */
const MAX_UNREAD = 16;
/** A ping after 10 s of silence; the connection ends without an answer within 4 s. */
const PINGS = { "grpc.keepalive_time_ms": 10_000, "grpc.keepalive_timeout_ms": 4_000 };

/** Returns the client class of the Perception service. */
export function loadPerception() {
  const definition = protoLoader.loadSync("protos/perception.proto", {
    includeDirs: [ROOT],
    longs: BigInt, // nanoseconds and seqs are 64-bit
    enums: String,
    defaults: true,
    oneofs: true,
    keepCase: true,
  });
  return grpc.loadPackageDefinition(definition).sensebind.v1.Perception;
}

/** Returns a Vector message's numbers as a Float32Array. */
export function numbersOf(vector) {
  const view = new DataView(vector.data.buffer, vector.data.byteOffset, vector.data.byteLength);
  if (vector.dtype === "DTYPE_FLOAT32") {
    return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  return Float32Array.from({ length: view.byteLength / 2 }, (_, i) => float16(view.getUint16(2 * i, true)));
}

/** IEEE 754 binary16, from its bits. */
function float16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Returns an embedding's scores as {query_id, modality, score}, from its table, or from an older agent's messages. */
export function scoresOf(embedding) {
  const table = embedding.score_table;
  if (!table) return embedding.scores;
  const view = new DataView(table.values.buffer, table.values.byteOffset, table.values.byteLength);
  const { query_ids: ids, modalities } = table;
  return ids.flatMap((query_id, column) =>
    modalities.map((modality, row) => {
      const score = view.getFloat32(4 * (row * ids.length + column), true);
      return { query_id, modality, score };
    }),
  );
}

/** Returns the highest score of each query. */
function bestScores(embedding) {
  const best = new Map();
  for (const score of scoresOf(embedding)) {
    if (!Number.isNaN(score.score) && !(best.get(score.query_id)?.score >= score.score)) best.set(score.query_id, score);
  }
  return [...best.values()];
}

const describeScore = (s) => `${s.query_id}=${s.score.toFixed(2)} (${modality(s.modality)})`;
const lower = (name, prefix) => name.replace(prefix, "").toLowerCase();
const modality = (name) => lower(name, "MODALITY_");

/** Returns an event as one line. */
export function lineOf(event) {
  const body = event[event.event];
  const time = new Date(Number(event.capture_ns / 1000000n)).toISOString();
  return `${event.seq} ${time} ${event.event} ${describe(event.event, body)}`;
}

function describe(kind, body) {
  switch (kind) {
    case "embedding": {
      const windows = body.windows.map((w) => {
        if (!w.present) return `${w.sensor}=missing(${w.missing_reason})`;
        const filled = w.filled > 0 ? `(${(100 * w.filled).toFixed(1)}% filled)` : "";
        if (!w.vector) return `${w.sensor}=present${filled}`;
        const first = [...numbersOf(w.vector).slice(0, 2)].map((number) => number.toFixed(2));
        return `${w.sensor}=[${first.join(" ")} ...]${filled}`;
      });
      return [`tick ${body.tick}`, ...windows, ...bestScores(body).map((s) => describeScore(s))].join(" ");
    }
    case "audio_source": {
      const where = body.direction ? ` azimuth ${body.direction.azimuth_deg.toFixed(1)} deg` : "";
      return `${lower(body.state, "SOURCE_STATE_")}${where} ${body.reason}`.trimEnd();
    }
    case "alert":
      return `${lower(body.phase, "ALERT_PHASE_")} "${body.text}" by ${body.modalities.map(modality).join(", ")}`;
    case "health":
      return `${body.sensor} ${lower(body.state, "STATE_")} ${body.rate_hz.toFixed(1)} Hz ${body.reason}`.trimEnd();
    case "recording":
      return `${lower(body.state, "STATE_")} ${body.path} ${body.reason}`.trimEnd();
    case "model":
      return `${lower(body.state, "STATE_")} ${body.reason}`.trimEnd();
    case "query":
      return `${lower(body.change, "CHANGE_")} ${body.query.id} "${body.query.text}"`;
    case "gap":
      return `${body.first_seq}..${body.last_seq} ${body.reason}`;
    default:
      return "of a kind that this client does not know";
  }
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { count: { type: "string" }, kind: { type: "string", multiple: true } },
  });
  const address = positionals[0] ?? "127.0.0.1:50051";
  const Perception = loadPerception();
  const client = new Perception(address, grpc.credentials.createInsecure(), PINGS);
  const kinds = (values.kind ?? []).map((kind) => `EVENT_KIND_${kind.toUpperCase()}`);
  const call = client.Watch();
  call.write({ subscribe: { kinds, vectors: true }, max_unread: MAX_UNREAD });
  let left = values.count ? Number(values.count) : Infinity;
  call.on("data", (event) => {
    if (left <= 0) return; // came before the cancel took effect
    left -= 1;
    process.stdout.write(`${lineOf(event)}\n`, () => call.write({ read_seq: event.seq }));
    if (left <= 0) call.cancel();
  });
  call.on("error", (error) => {
    if (error.code === grpc.status.CANCELLED) return;
    console.error(`${address}: ${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  });
  call.on("close", () => client.close());
  process.stdout.on("error", () => call.cancel()); // nobody reads it any more
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
