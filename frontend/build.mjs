// Bundle every widget, src/<widget>/index.js, into one file that needs nothing else: <out>/<widget>.mjs.
// Beside them: theme.css and icons.json for pages made of ipywidgets, and the licences of what is bundled.
// Usage: node build.mjs [OUT]; OUT is focusnb/panels/static by default.

import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import * as esbuild from "esbuild";
import * as lucide from "lucide";

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCE = join(HERE, "src");
const COMMON = join(SOURCE, "common");
const OUT = resolve(process.argv[2] ?? join(HERE, "..", "focusnb", "panels", "static"));
const TARGET = ["chrome123", "firefox121", "safari17.5"]; // the first with light-dark() and nested rules

const minifyCss = async (text) => (await esbuild.transform(text, { loader: "css", minify: true, target: TARGET })).code;

// Style sheets and drawings are text inside the bundles.
const texts = {
  name: "texts",
  setup(build) {
    build.onLoad({ filter: /\.css$/ }, async ({ path }) => ({
      contents: await minifyCss(await readFile(path, "utf8")),
      loader: "text",
    }));
    build.onLoad({ filter: /\.svg$/ }, async ({ path }) => ({
      contents: await readDrawing(path),
      loader: "text",
    }));
  },
};

const readDrawing = async (path) => (await readFile(path, "utf8")).replace(/>\s+</g, "><").trim();

const attributes = (values) =>
  Object.entries(values)
    .filter(([name]) => name !== "key")
    .map(([name, value]) => ` ${name}="${value}"`)
    .join("");

function drawIcon(name) {
  const parts = lucide[name];
  if (!Array.isArray(parts)) throw new Error(`src/common/icons.json: lucide has no icon ${name}`);
  const shapes = parts.map(([tag, values]) => `<${tag}${attributes(values)}/>`).join("");
  return (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" ' +
    `stroke-linejoin="round" aria-hidden="true">${shapes}</svg>`
  );
}

async function listFolders(folder) {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory() && entry.name !== "common").map((entry) => entry.name);
}

async function findWidgets() {
  const widgets = [];
  for (const name of (await listFolders(SOURCE)).sort()) {
    const files = await readdir(join(SOURCE, name));
    if (files.includes("index.js")) widgets.push(name);
  }
  return widgets;
}

async function bundle(widgets) {
  const result = await esbuild.build({
    entryPoints: widgets.map((name) => ({ in: join(SOURCE, name, "index.js"), out: name })),
    absWorkingDir: HERE,
    outdir: OUT,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    format: "esm",
    target: TARGET,
    charset: "utf8",
    legalComments: "none",
    plugins: [texts],
    logLevel: "warning",
  });
  const packages = new Set(["lucide"]); // icons.json draws from it in any case
  for (const path of Object.keys(result.metafile.inputs)) {
    const inside = path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (inside) packages.add(inside[1]);
  }
  return { files: result.outputFiles.map((file) => [file.path, file.contents]), packages: [...packages].sort() };
}

async function licences(packages) {
  const parts = [];
  for (const name of packages) {
    const folder = join(HERE, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} ${version} (${license}) comes without the text of its licence`);
    parts.push(`${name} ${version}, ${license}\n\n${(await readFile(join(folder, file), "utf8")).trim()}\n`);
  }
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}

async function icons() {
  const names = JSON.parse(await readFile(join(COMMON, "icons.json"), "utf8"));
  const drawn = Object.fromEntries(Object.entries(names).map(([name, lucideName]) => [name, drawIcon(lucideName)]));
  for (const file of (await readdir(join(COMMON, "shapes"))).sort()) {
    drawn[file.replace(/\.svg$/, "")] = await readDrawing(join(COMMON, "shapes", file));
  }
  return JSON.stringify(drawn, null, 1);
}

const { files, packages } = await bundle(await findWidgets());
files.push(
  [join(OUT, "theme.css"), await minifyCss(await readFile(join(COMMON, "theme.css"), "utf8"))],
  [join(OUT, "icons.json"), await icons()],
  [join(OUT, "LICENSES.txt"), await licences(packages)],
);

await mkdir(OUT, { recursive: true });
await rm(join(OUT, "stamp"), { force: true }); // the build hook writes it, and what was made by hand is not its own
for (const [path, contents] of files) {
  await writeFile(`${path}.part`, contents); // a kernel that reads meanwhile sees the old file or the new one
  await rename(`${path}.part`, path);
}
const wanted = new Set(files.map(([path]) => path));
for (const name of await readdir(OUT)) if (!wanted.has(join(OUT, name))) await rm(join(OUT, name), { recursive: true });
for (const [path, contents] of files) console.log(`${path} ${(contents.length / 1000).toFixed(1)} kB`);
