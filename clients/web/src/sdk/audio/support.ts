import { VezaError } from "../errors";

/** What this browser lacks for live audio, as a sentence; nothing when it has everything. */
export function missingFor(what: "listen" | "publish"): string | undefined {
  if (!isSecureContext) return "Live audio needs a page that came over https.";
  if (typeof AudioContext === "undefined" || typeof AudioWorkletNode === "undefined") return "This browser has no audio worklets, which live audio needs.";
  const codec = what === "listen" ? typeof AudioDecoder : typeof AudioEncoder;
  if (codec === "undefined") return `This browser cannot ${what === "listen" ? "decode" : "encode"} live audio: it has no WebCodecs. Chrome 94, Firefox 130 and Safari 26 have it.`;
  return undefined;
}

/** @throws VezaError `unsupported`, with a sentence for people. */
export function require(what: "listen" | "publish"): void {
  const missing = missingFor(what);
  if (missing) throw new VezaError("unsupported", missing);
}

/** Where the workers and the worklets are that `npm run build` makes. */
export interface AudioFiles {
  /** `playout.js`: decodes what is heard. */
  playout: string | URL;
  /** `record.js`: encodes what is published. */
  record: string | URL;
  /** `worklets.js`: plays and records. */
  worklets: string | URL;
}

/** Beside the page. */
export const FILES: AudioFiles = { playout: "playout.js", record: "record.js", worklets: "worklets.js" };
