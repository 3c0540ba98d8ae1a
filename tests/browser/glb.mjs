// Opens meshes that relievo wrote in other people's viewers, in Chromium. README.md says how to run this.
//   node glb.mjs FILE.glb...
//   node glb.mjs --measure PAGE.html FILE.glb

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const here = path.dirname(fileURLToPath(import.meta.url));
const measuring = process.argv[2] === '--measure';
const files = process.argv.slice(measuring ? 3 : 2);
if (measuring ? files.length !== 2 : files.length === 0) {
  console.error('Usage: node glb.mjs FILE.glb...\n       node glb.mjs --measure PAGE.html FILE.glb');
  process.exit(2);
}

// ---- The viewers --------------------------------------------------------------------------------------------------
// Each sets window.report once the mesh is loaded, or window.failure.

const threeSource = `
  import { AmbientLight, Box3, DirectionalLight, Mesh, PerspectiveCamera, Scene, Vector3, WebGLRenderer } from 'three';
  import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
  import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
  const renderer = new WebGLRenderer({ antialias: true });
  renderer.setSize(innerWidth, innerHeight);
  renderer.setClearColor(0xffffff);
  document.body.append(renderer.domElement);
  const scene = new Scene();
  const camera = new PerspectiveCamera(12, innerWidth / innerHeight, .1, 10);
  camera.position.set(0, 0, 1);
  const light = new DirectionalLight(0xffffff, 2);
  light.position.set(-.3, .5, 1);
  scene.add(light, new AmbientLight(0xffffff, 1));
  const controls = new OrbitControls(camera, renderer.domElement);
  const draw = () => renderer.render(scene, camera);
  controls.addEventListener('change', draw);
  new GLTFLoader().load('model.glb', gltf => {
    let triangles = 0, textured = true;
    gltf.scene.traverse(object => {
      if (!(object instanceof Mesh)) return;
      triangles += object.geometry.index.count / 3;
      textured &&= Boolean(object.material.map?.image?.width) && Boolean(object.geometry.attributes.normal);
    });
    scene.add(gltf.scene);
    const size = new Box3().setFromObject(gltf.scene).getSize(new Vector3()).toArray();
    draw();
    window.report = { triangles, textured, size };
  }, undefined, error => { window.failure = String(error?.message ?? error); });
`;
const modelViewerSource = `
  import '@google/model-viewer';
  const viewer = document.querySelector('model-viewer');
  viewer.addEventListener('load', () => {
    const { x, y, z } = viewer.getDimensions();
    const [material] = viewer.model.materials;
    window.report = { size: [x, y, z], textured: Boolean(material.pbrMetallicRoughness.baseColorTexture.texture) };
  });
  viewer.addEventListener('error', event => { window.failure = JSON.stringify(event.detail?.sourceError?.message ?? event.detail); });
  viewer.src = 'model.glb';
`;
async function bundle(contents) {
  const result = await build({
    stdin: { contents, resolveDir: here, loader: 'js' },
    bundle: true, minify: true, treeShaking: true, format: 'esm', target: 'es2022', write: false, legalComments: 'none', logLevel: 'error',
  });
  return Buffer.from(result.outputFiles[0].contents);
}
const html = (body, script) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>mesh</title><link rel="icon" href="data:,">
<style>body { margin: 0; background: #fff } model-viewer { width: 100vw; height: 100vh; background: #fff }</style>
<body>${body}<script type="module" src="${script}"></script></body></html>`;

const threeBundle = await bundle(threeSource), modelViewerBundle = await bundle(modelViewerSource);
let glb, page;
const answers = {
  '/three.html': () => ['text/html', html('', 'three.js')],
  '/three.js': () => ['text/javascript', threeBundle],
  '/model-viewer.html': () => ['text/html', html('<model-viewer camera-controls alt="A mesh"></model-viewer>', 'model-viewer.js')],
  '/model-viewer.js': () => ['text/javascript', modelViewerBundle],
  '/model.glb': () => ['model/gltf-binary', glb],
  '/page.html': () => ['text/html', page],
};
const server = http.createServer((request, response) => {
  const answer = answers[request.url];
  if (!answer) return response.writeHead(404).end();
  const [type, body] = answer();
  response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(body);
});
await new Promise(done => server.listen(0, '127.0.0.1', done));
const origin = 'http://127.0.0.1:' + server.address().port;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
});

async function until(tab, condition, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await tab.waitForTimeout(30)) {
    const result = await tab.evaluate(condition);
    if (result) return result;
  }
  throw new Error('waited in vain for ' + condition);
}

/** The number of triangles, from the file's own description. */
function triangles(body) {
  assert.equal(body.toString('latin1', 0, 4), 'glTF', 'not a GLB');
  const description = JSON.parse(body.toString('utf8', 20, 20 + body.readUInt32LE(12)));
  return description.meshes.flatMap(mesh => mesh.primitives)
    .reduce((sum, primitive) => sum + description.accessors[primitive.indices].count / 3, 0);
}

// ---- Tests --------------------------------------------------------------------------------------------------------

async function view(viewer) {
  const context = await browser.newContext({ viewport: { width: 480, height: 480 } });
  const tab = await context.newPage();
  const complaints = [];
  tab.on('pageerror', error => complaints.push(String(error)));
  tab.on('console', message => { if (message.type() === 'error') complaints.push(message.text()); });
  tab.on('request', request => { if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(origin)) complaints.push('asks for ' + request.url()); });
  await tab.goto(`${origin}/${viewer}.html`);
  const outcome = await until(tab, () => window.failure ? { failure: window.failure } : window.report && { report: window.report });
  assert.equal(outcome.failure, undefined);
  await tab.waitForTimeout(1200); // model-viewer fades in
  const png = (await tab.screenshot()).toString('base64');
  // How much of the middle is not background, and in how many colours.
  const seen = await tab.evaluate(async png => {
    const image = new Image();
    image.src = 'data:image/png;base64,' + png;
    await image.decode();
    const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(image.width / 4, image.height / 4, image.width / 2, image.height / 2);
    const colours = new Set();
    let covered = 0;
    for (let i = 0; i < data.length; i += 4) {
      colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
      if (Math.min(data[i], data[i + 1], data[i + 2]) < 245) covered++;
    }
    return { colours: colours.size, covered: covered / (data.length / 4) };
  }, png);
  await context.close();
  assert.deepEqual(complaints, []);
  assert.ok(seen.covered > .5, `covers ${seen.covered} of the middle`);
  assert.ok(seen.colours > 200, seen.colours + ' colours');
  return { ...outcome.report, ...seen };
}

async function test() {
  let failed = 0;
  for (const file of files) {
    glb = fs.readFileSync(file);
    for (const viewer of ['three', 'model-viewer']) {
      const what = `${path.basename(file)} in ${viewer}`;
      try {
        const report = await view(viewer), count = triangles(glb);
        assert.ok(count > 0);
        if (report.triangles !== undefined) assert.equal(report.triangles, count);
        assert.ok(report.textured, 'no texture');
        assert.ok(report.size.every(size => size > .01 && size < 1), 'not the size of a head: ' + report.size);
        console.log(`ok ${what}: ${count} triangles, ${report.size.map(size => size.toFixed(3)).join(' x ')}, ${report.colours} colours`);
      } catch (error) {
        failed++;
        console.log(`FAILED ${what}: ${error.stack || error}`);
      }
    }
  }
  return failed;
}

// ---- Measurements -------------------------------------------------------------------------------------------------

/** Milliseconds from the start of the navigation until the whole mesh has been drawn for the first time. */
async function start(viewer, count) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const tab = await context.newPage();
  // The same clock for all: WebGL itself notes the first call that draws as many triangles as the mesh has. Reading a
  // pixel waits until it is drawn; the frame after that is when it is seen.
  await tab.addInitScript(least => {
    const original = WebGL2RenderingContext.prototype.drawElements;
    WebGL2RenderingContext.prototype.drawElements = function (mode, length, ...rest) {
      original.call(this, mode, length, ...rest);
      if (length < least || window.started !== undefined) return;
      window.started = 0;
      this.readPixels(0, 0, 1, 1, this.RGBA, this.UNSIGNED_BYTE, new Uint8Array(4));
      requestAnimationFrame(() => { window.started = performance.now(); });
    };
  }, count * 3);
  await tab.goto(`${origin}/${viewer}.html`);
  const time = await until(tab, () => window.started);
  await context.close();
  return time;
}

async function measure() {
  page = fs.readFileSync(files[0]);
  glb = fs.readFileSync(files[1]);
  const template = fs.readFileSync(path.join(here, '../../crates/relievo/assets/page.html'));
  const shipped = fs.readFileSync(path.join(here, 'node_modules/@google/model-viewer/dist/model-viewer.min.js'));
  const row = (name, body) => console.log(
    `${name.padEnd(44)} ${String(body.length).padStart(9)} bytes ${String(zlib.gzipSync(body, { level: 9 }).length).padStart(9)} gzip`);
  row("relievo's template, with all controls", template);
  row('three.js, loader and controls, bundled', threeBundle);
  row('model-viewer, bundled', modelViewerBundle);
  row('model-viewer, as it is distributed', shipped);
  row('the page', page);
  row('the GLB', glb);
  const viewers = ['page', 'three', 'model-viewer'], times = { page: [], three: [], 'model-viewer': [] };
  for (let run = 0; run < 6; run++)
    for (const viewer of viewers) {
      const time = await start(viewer, triangles(glb));
      if (run > 0) times[viewer].push(time); // the first run warms the browser up
    }
  for (const viewer of viewers) {
    const sorted = times[viewer].sort((a, b) => a - b);
    console.log(`${viewer.padEnd(14)} first frame after ${sorted[2].toFixed(0)} ms (median of 5, ${sorted[0].toFixed(0)} to ${sorted[4].toFixed(0)})`);
  }
  return 0;
}

const failed = measuring ? await measure() : await test();
await browser.close();
server.close();
process.exit(failed ? 1 : 0);
