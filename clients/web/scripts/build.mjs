// Builds dist/ from the sources. The same sources give the same bytes, so `--check` can tell whether the committed
// dist/ is what they build.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const OUT = "dist";
/** A page that is larger than this has grown by mistake; the protobuf runtime and the schema take 120 KiB of it. Bytes. */
const APP_BYTES_MAX = 272 * 1024;

const bundle = async (entry) => {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: ["chrome123", "firefox120", "safari17.5"],
    legalComments: "none",
    charset: "utf8",
  });
  return outputFiles[0].contents;
};

const files = new Map([
  ["index.html", readFileSync("public/index.html")],
  ["icon.svg", readFileSync("public/icon.svg")],
  ["app.js", await bundle("src/app/main.ts")],
  ["links.js", await bundle("src/worker/links.ts")],
  ["record.js", await bundle("src/worker/record.ts")],
  ["playout.js", await bundle("src/worker/playout.ts")],
  ["worklets.js", await bundle("src/worker/worklets.ts")],
  ["style.css", await bundle("src/app/style.css")],
]);

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 16);
for (const [name, bytes] of files) console.log(`${name.padEnd(12)} ${String(bytes.length).padStart(7)} bytes  ${hash(bytes)}`);
if (files.get("app.js").length > APP_BYTES_MAX) throw new Error(`app.js is larger than ${APP_BYTES_MAX} bytes`);

// What the server does not embed is not there.
const embedded = readFileSync("../../src/page.rs", "utf8");
const missing = [...files.keys()].filter((name) => !embedded.includes(`"${name}"`));
if (missing.length > 0) throw new Error(`src/page.rs does not embed ${missing.join(", ")}`);

if (process.argv.includes("--check")) {
  const there = readdirSync(OUT).sort().join();
  const wanted = [...files.keys()].sort().join();
  const stale = [...files].filter(([name, bytes]) => there !== wanted || !readFileSync(`${OUT}/${name}`).equals(Buffer.from(bytes)));
  if (stale.length > 0) {
    console.error(`dist/ is not what the sources build (${stale.map(([name]) => name).join(", ")}): run \`npm run build\` and commit it`);
    process.exit(1);
  }
  console.log("dist/ is what the sources build");
} else {
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT);
  for (const [name, bytes] of files) writeFileSync(`${OUT}/${name}`, bytes);
}
