// Opens a page that relievo wrote in Chromium and uses it as a person would. README.md says how to run this.
//   node page.mjs PAGE.html [FOLDER_FOR_SCREENSHOTS]

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import zlib from 'node:zlib';
import { chromium } from 'playwright-core';

const [file, screenshots] = process.argv.slice(2);
if (!file) {
  console.error('Usage: node page.mjs PAGE.html [FOLDER_FOR_SCREENSHOTS]');
  process.exit(2);
}
const address = pathToFileURL(path.resolve(file)).href;
const bytes = fs.statSync(file).size;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
});
let failed = 0;

// ---- Tools --------------------------------------------------------------------------------------------------------

async function check(what, test) {
  try {
    const detail = await test();
    console.log('ok ' + what + (detail ? ': ' + detail : ''));
  } catch (error) {
    failed++;
    console.log('FAILED ' + what + ': ' + (error.stack || error));
  }
}

/** Pixels of an 8-bit PNG that is not interlaced, which is what browsers write. */
function decodePng(png) {
  assert.equal(png.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n', 'not a PNG');
  const parts = [];
  let width, height, channels;
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    const kind = png.toString('latin1', at + 4, at + 8), body = png.subarray(at + 8, at + 8 + png.readUInt32BE(at));
    if (kind === 'IHDR') {
      width = body.readUInt32BE(0);
      height = body.readUInt32BE(4);
      assert.equal(body[8], 8);
      assert.equal(body[12], 0);
      channels = { 2: 3, 6: 4 }[body[9]];
      assert.ok(channels, 'neither RGB nor RGBA');
    }
    if (kind === 'IDAT') parts.push(body);
  }
  const raw = zlib.inflateSync(Buffer.concat(parts)), stride = width * channels;
  const pixels = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x >= channels ? pixels[y * stride + x - channels] : 0;
      const up = y ? pixels[(y - 1) * stride + x] : 0;
      const corner = y && x >= channels ? pixels[(y - 1) * stride + x - channels] : 0;
      const p = left + up - corner, a = Math.abs(p - left), b = Math.abs(p - up), c = Math.abs(p - corner);
      const guess = [0, left, up, (left + up) >> 1, a <= b && a <= c ? left : b <= c ? up : corner][filter];
      pixels[y * stride + x] = raw[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return { width, height, channels, pixels, at: (x, y) => pixels.subarray((y * width + x) * channels, (y * width + x) * channels + 3) };
}

const brightness = ([r, g, b]) => (r + g + b) / 3;
function mean(image, left, top, right, bottom) {
  let sum = 0, count = 0;
  for (let y = Math.round(top * image.height); y < bottom * image.height; y++)
    for (let x = Math.round(left * image.width); x < right * image.width; x++, count++) sum += brightness(image.at(x, y));
  return sum / count;
}
/** Mean difference of all values, from 0 to 255. */
function difference(a, b) {
  assert.deepEqual([a.width, a.height], [b.width, b.height]);
  let sum = 0;
  for (let i = 0; i < a.pixels.length; i++) sum += Math.abs(a.pixels[i] - b.pixels[i]);
  return sum / a.pixels.length;
}

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.requests = [];
  page.complaints = [];
  page.on('request', request => page.requests.push(request.url()));
  page.on('console', message => { if (['error', 'warning'].includes(message.type())) page.complaints.push(message.text()); });
  page.on('pageerror', error => page.complaints.push(String(error)));
  if (options.before) await page.addInitScript(options.before);
  await page.goto(address);
  if (!options.before) await until(page, () => window.relievo.frames > 0);
  return page;
}
async function until(page, condition, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await page.waitForTimeout(30))
    if (await page.evaluate(condition)) return;
  throw new Error('waited in vain for ' + condition);
}
const get = page => page.evaluate(() => window.relievo.state);
async function set(page, values) {
  await page.evaluate(async values => {
    for (const name in values) window.relievo.set(name, values[name]);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  }, values);
}
/** What the canvas shows, without what lies over it. */
async function picture(page) {
  await page.evaluate(async () => {
    for (const id of ['bar', 'play']) document.getElementById(id).style.visibility = 'hidden';
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  });
  const png = await page.locator('canvas').screenshot();
  await page.evaluate(() => { for (const id of ['bar', 'play']) document.getElementById(id).style.visibility = ''; });
  return decodePng(png);
}
/** Moves a slider as a browser does when somebody drags it. */
const slide = (page, id, value) => page.locator('#' + id).fill(String(value));
const front = { yaw: 0, pitch: 0, roll: 0, shiftX: 0, shiftY: 0, shiftZ: 0, zoom: 1, depth: 100, draw: 'photograph' };
async function download(page, button) {
  const waiting = page.waitForEvent('download', { timeout: 60000 });
  await page.click(button);
  const result = await waiting;
  return { name: result.suggestedFilename(), body: fs.readFileSync(await result.path()) };
}
async function shot(page, name) {
  if (!screenshots) return;
  fs.mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: path.join(screenshots, name + '.png') });
}

// ---- Tests --------------------------------------------------------------------------------------------------------

const page = await open();
const data = await page.evaluate(() => JSON.parse(document.getElementById('data').textContent));
const recorded = await get(page);

await check('the page weighs less than 1 MB', () => {
  assert.ok(bytes < 1e6, bytes + ' bytes');
  return bytes + ' bytes';
});

await check('no placeholder is left', async () => {
  assert.doesNotMatch(await page.content(), /__RELIEVO_/);
  assert.ok((await page.title()).length > 0);
});

await check('the face is visible', async () => {
  await set(page, front);
  const image = await picture(page);
  const values = new Set();
  for (let i = 0; i < image.pixels.length; i += image.channels * 7) values.add(image.pixels.readUIntBE(i, 3));
  assert.ok(values.size > 500, values.size + ' colours');
  const middle = mean(image, .45, .4, .55, .6), corner = mean(image, 0, 0, .05, .05);
  assert.ok(Math.abs(middle - corner) > 5, 'the middle looks like the backdrop');
  await shot(page, 'desktop');
  return values.size + ' colours';
});

await check('another angle gives another picture', async () => {
  await set(page, { ...front, yaw: -30 });
  const left = await picture(page);
  await set(page, { ...front, yaw: 30 });
  const right = await picture(page);
  const change = difference(left, right);
  assert.ok(change > 3, String(change));
  return 'mean difference ' + change.toFixed(1);
});

await check('the light sliders light the side that they name', async () => {
  await set(page, { ...front, draw: 'shape', ambient: .3, diffuse: .8 });
  const sides = [];
  for (const [id, value] of [['azimuth', -80], ['azimuth', 80]]) {
    await set(page, { elevation: 0 });
    await slide(page, id, value);
    const image = await picture(page), half = .3 * image.height / image.width;
    sides.push(mean(image, .5 - half, .3, .5, .7) - mean(image, .5, .3, .5 + half, .7));
  }
  assert.ok(sides[0] > 3 && sides[1] < -3, 'left minus right: ' + sides);
  await set(page, { azimuth: 0 });
  await slide(page, 'elevation', 80);
  const above = await picture(page);
  await slide(page, 'elevation', -80);
  assert.ok(difference(above, await picture(page)) > 3);
  await slide(page, 'elevation', 0);
  const before = mean(await picture(page), .45, .4, .55, .6);
  await slide(page, 'ambient', .8);
  const after = mean(await picture(page), .45, .4, .55, .6);
  assert.ok(after > before + 10, before + ' to ' + after);
  await slide(page, 'diffuse', 0);
  const dimmed = mean(await picture(page), .45, .4, .55, .6);
  assert.ok(dimmed < after - 10, after + ' to ' + dimmed);
  assert.equal(await page.locator('output[for=diffuse]').textContent(), '0.00');
  await set(page, recorded);
  return 'left minus right ' + sides.map(side => side.toFixed(1)).join(' and ');
});

await check('the depth slider changes the face from the side', async () => {
  await set(page, { ...front, yaw: 50 });
  const normal = await picture(page);
  await slide(page, 'depth', 200);
  const deep = await picture(page);
  await slide(page, 'depth', 0);
  const flat = await picture(page);
  assert.ok(difference(normal, deep) > 2 && difference(normal, flat) > 2);
  await set(page, { ...front, draw: 'shape', azimuth: 0, elevation: 0 });
  await slide(page, 'depth', 0);
  const image = await picture(page);
  const spread = Math.abs(mean(image, .47, .3, .5, .4) - mean(image, .5, .55, .53, .65));
  assert.ok(spread < 1, 'a flat face has different shades: ' + spread);
  await set(page, recorded);
});

await check('the sliders for turning turn, and say so', async () => {
  await set(page, front);
  await slide(page, 'yaw', 40);
  await slide(page, 'pitch', -20);
  const state = await get(page);
  assert.deepEqual([state.yaw, state.pitch], [40, -20]);
  assert.equal(await page.locator('#yaw').getAttribute('aria-valuetext'), '40° right');
  assert.equal(await page.locator('output[for=pitch]').textContent(), '20° down');
});

await check('dragging with the mouse turns the face after the pointer', async () => {
  await set(page, front);
  const before = await picture(page);
  const box = await page.locator('canvas').boundingBox();
  const x = box.x + box.width / 2, y = box.y + box.height / 2;
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + 100, y + 40, { steps: 8 });
  await page.mouse.up();
  const state = await get(page);
  assert.ok(state.yaw > 10 && state.pitch < -4, JSON.stringify(state));
  assert.ok(difference(before, await picture(page)) > 3);
  assert.equal(Math.round(Number(await page.inputValue('#yaw'))), Math.round(state.yaw), 'the slider does not follow');
  await page.mouse.move(x, y);
  await page.keyboard.down('Shift');
  await page.mouse.down();
  await page.mouse.move(x - 60, y - 60, { steps: 4 });
  await page.mouse.up();
  await page.keyboard.up('Shift');
  const lit = await get(page);
  assert.equal(lit.yaw, state.yaw);
  assert.ok(lit.azimuth < state.azimuth && lit.elevation > state.elevation, 'Shift does not move the light');
  await page.mouse.dblclick(x, y);
  await page.waitForTimeout(200);
  assert.equal((await get(page)).yaw, 0, 'a double click does not reset');
  return `yaw ${state.yaw.toFixed(1)}, pitch ${state.pitch.toFixed(1)} degrees`;
});

await check('the wheel zooms, and scrolls the page at the end of its range', async () => {
  await set(page, front);
  await page.locator('canvas').hover();
  await page.mouse.wheel(0, -300);
  await page.waitForTimeout(100);
  const { zoom } = await get(page);
  assert.ok(zoom > 1.2, String(zoom));
  for (let i = 0; i < 8; i++) await page.mouse.wheel(0, 400);
  await page.waitForTimeout(400);
  assert.ok(await page.evaluate(() => scrollY > 0), 'one cannot scroll past the canvas');
  await page.evaluate(() => scrollTo(0, 0));
});

await check('the keyboard turns and zooms', async () => {
  await set(page, front);
  await page.focus('canvas');
  for (const key of ['ArrowRight', 'ArrowRight', 'ArrowUp', '+']) await page.keyboard.press(key);
  const state = await get(page);
  assert.deepEqual([state.yaw, state.pitch], [10, 5]);
  assert.ok(state.zoom > 1.1);
  for (const key of ['ArrowLeft', 'ArrowDown', '-']) await page.keyboard.press(key);
  assert.ok(Math.abs((await get(page)).zoom - 1) < .01);
  assert.equal((await get(page)).yaw, 5);
});

await check('what is drawn can be chosen', async () => {
  await set(page, front);
  const images = [];
  for (const choice of ['photograph', 'shape', 'normals']) {
    await page.locator(`input[name=draw][value=${choice}]`).check();
    images.push(await picture(page));
    await shot(page, 'draw-' + choice);
  }
  assert.ok(difference(images[0], images[1]) > 3 && difference(images[1], images[2]) > 3);
  // The normal of a surface that faces the viewer is (0, 0, 1), whose colour is (0.5, 0.5, 1).
  const { width, height } = images[2];
  const sum = [0, 0, 0];
  for (let y = height * .3 | 0; y < height * .7; y++)
    for (let x = width / 2 - height * .25 | 0; x < width / 2 + height * .25; x++) images[2].at(x, y).forEach((v, i) => { sum[i] += v; });
  assert.ok(sum[2] > sum[0] * 1.2 && sum[2] > sum[1] * 1.2, 'normals are not blue on the whole: ' + sum);
  await page.locator('input[name=draw][value=photograph]').check();
});

await check("'As in the photograph' and 'Reset' bring light and view back", async () => {
  await set(page, { azimuth: 70, elevation: -50, ambient: 1, diffuse: .1, depth: 30, yaw: 120, draw: 'normals' });
  await page.click('#asPhotograph');
  await page.waitForTimeout(300);
  let state = await get(page);
  // In the record x is right, y down, z away, and turns go by x, y, z: small angles are those of the view but for signs.
  const [rx, ry] = data.viewpoint.rotation.map(angle => angle * 180 / Math.PI);
  assert.ok(Math.abs(state.yaw + ry) < 8 && Math.abs(state.pitch + rx) < 8, JSON.stringify(state));
  for (const name of ['azimuth', 'elevation', 'ambient', 'diffuse', 'depth', 'draw']) assert.equal(state[name], recorded[name], name);
  await shot(page, 'as-in-the-photograph');
  await page.click('#reset');
  await page.waitForTimeout(300);
  state = await get(page);
  assert.deepEqual([state.yaw, state.pitch, state.roll, state.shiftX, state.zoom], [0, 0, 0, 0, 1]);
});

await check('the recorded view shows the photograph, not its mirror image', async () => {
  const photograph = data.maps.find(map => map.label === 'Photograph');
  if (!photograph) return 'left out: the page has no map called Photograph';
  await set(page, { ...recorded, ...front });
  await page.click('#asPhotograph');
  await page.waitForTimeout(300);
  const view = await picture(page);
  // The page leaves some room around the photograph's field of view; here that is taken off again.
  const extent = (() => {
    const values = Buffer.from(data.positions, 'base64');
    let largest = 0;
    for (let i = 0; i < values.length; i += 12)
      largest = Math.max(largest, Math.abs(values.readFloatLE(i)), Math.abs(values.readFloatLE(i + 4)));
    return largest;
  })();
  const field = Math.tan(data.fieldOfView * Math.PI / 360), room = Math.max(field, extent) * 1.14 / field;
  const size = 48, side = Math.min(view.width, view.height) / room;
  const sample = (image, x, y) => brightness(image.at(
    Math.round(image.width / 2 + ((x + .5) / size - .5) * side), Math.round(image.height / 2 + ((y + .5) / size - .5) * side)));
  // Where light makes a difference there is a surface; the backdrop stays as it is.
  await set(page, { ambient: 0, diffuse: 0 });
  const black = await picture(page);
  const ours = [], covered = [];
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
    ours.push(sample(view, x, y));
    covered.push(sample(black, x, y) < 2);
  }
  const theirs = await page.evaluate(async ({ source, size }) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = new OffscreenCanvas(size, size), context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, size, size);
    const { data } = context.getImageData(0, 0, size, size), result = [];
    for (let i = 0; i < data.length; i += 4) result.push((data[i] + data[i + 1] + data[i + 2]) / 3);
    return result;
  }, { source: photograph.source, size });
  // Compared without the outermost part of the surface, where it bends away and shows what lies behind the face.
  const correlation = flip => {
    const a = [], b = [];
    for (let y = 4; y < size - 4; y++) for (let x = 4; x < size - 4; x++) {
      if (![-3, 3].every(step => [x + step, size - 1 - x + step].every(at => covered[y * size + at]))) continue;
      a.push(ours[y * size + (flip ? size - 1 - x : x)]);
      b.push(theirs[y * size + x]);
    }
    assert.ok(a.length > 200, 'the surface covers little of the picture');
    const average = list => list.reduce((sum, v) => sum + v, 0) / list.length, ma = average(a), mb = average(b);
    let ab = 0, aa = 0, bb = 0;
    a.forEach((v, i) => { ab += (v - ma) * (b[i] - mb); aa += (v - ma) ** 2; bb += (b[i] - mb) ** 2; });
    return ab / Math.sqrt(aa * bb);
  };
  const straight = correlation(false), mirrored = correlation(true);
  assert.ok(straight > .7 && straight > mirrored, `correlation ${straight}, mirrored ${mirrored}`);
  await page.click('#reset');
  await page.waitForTimeout(300);
  return `correlation with the photograph ${straight.toFixed(3)}, mirrored ${mirrored.toFixed(3)}`;
});

await check('nothing is drawn while nothing changes', async () => {
  await page.waitForTimeout(300);
  const before = await page.evaluate(() => window.relievo.frames);
  await page.waitForTimeout(800);
  assert.equal(await page.evaluate(() => window.relievo.frames), before);
});

await check('the light starts as recorded', () => {
  const { azimuth, elevation, ambient, diffuse } = recorded, [x, y, z] = data.light.direction;
  assert.deepEqual([ambient, diffuse], [data.light.ambient, data.light.diffuse]);
  // The record's normals point into the surface: a light from the left of the photograph has a positive x.
  assert.ok(Math.abs(Math.sin(azimuth * Math.PI / 180) + x / Math.hypot(x, z)) < 1e-4, 'azimuth ' + azimuth);
  assert.ok(Math.abs(Math.sin(elevation * Math.PI / 180) - y) < 1e-4, 'elevation ' + elevation);
  return `${azimuth.toFixed(0)} degrees to the right, ${elevation.toFixed(0)} up`;
});

let originalDepth;
await check('the GLB is a valid glTF 2.0 file', async () => {
  await set(page, recorded);
  for (const depth of [100, 150]) {
    await slide(page, 'depth', depth);
    const { name, body } = await download(page, '#saveGlb');
    assert.equal(name, data.stem + '.glb');
    assert.equal(body.toString('latin1', 0, 4), 'glTF');
    assert.equal(body.readUInt32LE(4), 2);
    assert.equal(body.readUInt32LE(8), body.length);
    const length = body.readUInt32LE(12);
    assert.equal(length % 4, 0);
    assert.equal(body.readUInt32LE(16), 0x4e4f534a);
    const description = JSON.parse(body.toString('utf8', 20, 20 + length));
    assert.equal(description.asset.version, '2.0');
    assert.equal(body.readUInt32LE(24 + length), 0x004e4942);
    const binary = body.subarray(28 + length);
    assert.equal(body.readUInt32LE(20 + length), binary.length);
    assert.equal(binary.length % 4, 0);
    assert.equal(description.buffers[0].byteLength, binary.length);
    for (const view of description.bufferViews) {
      assert.equal(view.byteOffset % 4, 0);
      assert.ok(view.byteOffset + view.byteLength <= binary.length);
    }
    const primitive = description.meshes[0].primitives[0];
    const read = index => {
      const accessor = description.accessors[index], view = description.bufferViews[accessor.bufferView];
      const width = { SCALAR: 1, VEC2: 2, VEC3: 3 }[accessor.type];
      assert.equal(view.byteLength, accessor.count * width * 4);
      const values = [];
      for (let i = 0; i < accessor.count * width; i++)
        values.push(accessor.componentType === 5125 ? binary.readUInt32LE(view.byteOffset + i * 4) : binary.readFloatLE(view.byteOffset + i * 4));
      return { accessor, values, width };
    };
    const position = read(primitive.attributes.POSITION), normal = read(primitive.attributes.NORMAL);
    const coordinate = read(primitive.attributes.TEXCOORD_0), index = read(primitive.indices);
    for (const { values } of [position, normal, coordinate]) assert.ok(values.every(Number.isFinite));
    const count = position.accessor.count;
    assert.equal(count * 12, Buffer.from(data.positions, 'base64').length);
    assert.deepEqual([normal.accessor.count, coordinate.accessor.count], [count, count]);
    assert.ok(index.values.every(i => i < count));
    assert.equal(index.values.length * 4, Buffer.from(data.indices, 'base64').length);
    for (let axis = 0; axis < 3; axis++) {
      const along = position.values.filter((_, i) => i % 3 === axis);
      assert.equal(position.accessor.min[axis], along.reduce((a, b) => Math.min(a, b)));
      assert.equal(position.accessor.max[axis], along.reduce((a, b) => Math.max(a, b)));
    }
    let towards = 0;
    for (let i = 0; i < normal.values.length; i += 3) {
      assert.ok(Math.abs(Math.hypot(...normal.values.slice(i, i + 3)) - 1) < 1e-4, 'a normal is not a unit vector');
      towards += normal.values[i + 2] / count;
    }
    assert.ok(towards > .5, 'normals do not point towards the viewer: ' + towards);
    const material = description.materials[primitive.material];
    assert.equal(material.doubleSided, true);
    const image = description.images[description.textures[material.pbrMetallicRoughness.baseColorTexture.index].source];
    const view = description.bufferViews[image.bufferView];
    const texture = binary.subarray(view.byteOffset, view.byteOffset + view.byteLength);
    assert.ok(texture.equals(Buffer.from(data.texture.split(',')[1], 'base64')), 'the texture is not that of the page');
    assert.ok(data.texture.startsWith(`data:${image.mimeType};`));
    const range = position.accessor.max[2] - position.accessor.min[2];
    if (depth === 100) originalDepth = range;
    else assert.ok(Math.abs(range / originalDepth - 1.5) < 1e-3, 'the depth slider has no effect');
    if (screenshots) {
      fs.mkdirSync(screenshots, { recursive: true });
      if (depth === 100) fs.writeFileSync(path.join(screenshots, name), body);
    }
  }
  await slide(page, 'depth', 100);
});

await check('the STL is valid and in millimetres', async () => {
  const { name, body } = await download(page, '#saveStl');
  assert.equal(name, data.stem + '.stl');
  assert.notEqual(body.toString('latin1', 0, 5), 'solid');
  const count = body.readUInt32LE(80);
  assert.equal(body.length, 84 + 50 * count);
  assert.equal(count * 12, Buffer.from(data.indices, 'base64').length);
  let low = Infinity, high = -Infinity;
  for (let t = 0; t < count; t++)
    for (let i = 0; i < 12; i++) {
      const value = body.readFloatLE(84 + t * 50 + i * 4);
      assert.ok(Number.isFinite(value));
      if (i >= 3 && i % 3 === 1) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
  assert.ok(high - low > 50 && high - low < 500, `${high - low} mm high`);
  return `${count} triangles, ${(high - low).toFixed(0)} mm high`;
});

await check('pictures are PNG files of the view', async () => {
  await set(page, { ...front, yaw: 20 });
  const shown = await picture(page);
  const { name, body } = await download(page, '#savePng');
  assert.equal(name, data.stem + '.view.png');
  const image = decodePng(body);
  assert.ok(Math.abs(mean(image, 0, 0, 1, 1) - mean(shown, 0, 0, 1, 1)) < 3, 'the picture is not what is shown');
  const small = await download(page, '#saveSmallPng');
  assert.equal(small.name, data.stem + '.view-512.png');
  const square = decodePng(small.body);
  assert.deepEqual([square.width, square.height], [512, 512]);
  assert.ok(Math.abs(mean(square, .45, .4, .55, .6) - mean(square, 0, 0, .05, .05)) > 5, 'the small picture is empty');
  assert.deepEqual(await page.evaluate(() => [document.querySelector('canvas').width]), [shown.width], 'the canvas kept the wrong size');
  return `${image.width}x${image.height} and 512x512`;
});

await check('the video is a WebM or MP4 file', async () => {
  await set(page, front);
  const waiting = page.waitForEvent('download', { timeout: 60000 });
  await page.click('#saveVideo');
  assert.ok(await page.isDisabled('#saveVideo'));
  assert.match(await page.textContent('#saveVideo'), /recording/i);
  const result = await waiting, body = fs.readFileSync(await result.path());
  const webm = body.readUInt32BE(0) === 0x1a45dfa3, mp4 = body.toString('latin1', 4, 8) === 'ftyp';
  assert.ok(webm || mp4, 'neither WebM nor MP4');
  assert.equal(result.suggestedFilename(), data.stem + (webm ? '.webm' : '.mp4'));
  assert.ok(body.length > 10000, body.length + ' bytes');
  assert.ok(await page.isEnabled('#saveVideo'));
  assert.equal((await get(page)).yaw, 0, 'the view is not what it was');
  return `${result.suggestedFilename()}, ${body.length} bytes`;
});

await check('the maps are shown and can be downloaded', async () => {
  const figures = await page.evaluate(async () => {
    const result = [];
    for (const figure of document.querySelectorAll('figure')) {
      const image = figure.querySelector('img'), link = figure.querySelector('a');
      await image.decode();
      result.push({ width: image.naturalWidth, alt: image.alt, name: link.download });
    }
    return result;
  });
  assert.equal(figures.length, data.maps.length);
  for (const [i, figure] of figures.entries()) {
    assert.ok(figure.width > 0 && figure.alt === data.maps[i].label && figure.name === data.maps[i].file);
    const { name, body } = await download(page, `figure:nth-child(${i + 1}) a`);
    assert.equal(name, data.maps[i].file);
    assert.ok(body.equals(Buffer.from(data.maps[i].source.split(',')[1], 'base64')));
  }
  assert.equal(await page.locator('#figures tr').count(), data.figures.length);
  return figures.length + ' maps';
});

await check('every control has a name, every id is unique', async () => {
  const problems = await page.evaluate(() => {
    const problems = [];
    for (const input of document.querySelectorAll('input, select, textarea')) {
      const label = [...input.labels].map(label => label.textContent.trim()).join(' ');
      if (!label) problems.push('no label: ' + input.outerHTML);
      if (input.type === 'range' && !input.getAttribute('aria-valuetext')) problems.push('no value: ' + input.id);
    }
    for (const button of document.querySelectorAll('button, a'))
      if (!(button.getAttribute('aria-label') || button.textContent).trim()) problems.push('no name: ' + button.outerHTML);
    for (const image of document.querySelectorAll('img')) if (!image.alt) problems.push('no alternative: ' + image.outerHTML.slice(0, 80));
    const canvas = document.querySelector('canvas');
    if (canvas.getAttribute('role') !== 'img' || !canvas.getAttribute('aria-label') || canvas.tabIndex !== 0) problems.push('canvas');
    const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
    if (new Set(ids).size !== ids.length) problems.push('an id is used twice');
    if (document.querySelectorAll('h1').length !== 1 || !document.documentElement.lang) problems.push('no heading or language');
    return problems;
  });
  assert.deepEqual(problems, []);
});

async function contrasts(page) {
  return page.evaluate(() => {
    const parse = text => text.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const behind = element => {
      for (; element; element = element.parentElement) {
        const colour = parse(getComputedStyle(element).backgroundColor);
        if (colour.length === 3 || colour[3] > 0) return colour;
      }
      return [255, 255, 255];
    };
    const low = [];
    let count = 0;
    for (const element of document.querySelectorAll('h1, h2, h3, p, legend, label, output, button, span, a, th, td, figcaption, footer')) {
      const text = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
      if (!text || element.matches('.hidden, :disabled') || !element.offsetParent) continue;
      const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
      const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      count++;
      if (ratio < 4.5) low.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
    }
    return { low, count };
  });
}
await check('text has enough contrast on light ground', async () => {
  const { low, count } = await contrasts(page);
  assert.deepEqual(low, []);
  return count + ' texts';
});

await check('a lost WebGL context is told, and comes back', async () => {
  await page.evaluate(() => {
    window.extension = document.querySelector('canvas').getContext('webgl2').getExtension('WEBGL_lose_context');
    window.extension.loseContext();
  });
  await until(page, () => !document.getElementById('notice').hidden);
  await download(page, '#saveGlb');
  await page.evaluate(() => window.extension.restoreContext());
  await until(page, () => document.getElementById('notice').hidden);
  await set(page, front);
  const image = await picture(page);
  assert.ok(Math.abs(mean(image, .45, .4, .55, .6) - mean(image, 0, 0, .05, .05)) > 5, 'the face did not come back');
});

await check('nothing but the page itself was requested, and nobody complained', () => {
  const others = page.requests.filter(url => url !== address && !/^(data|blob):/.test(url));
  assert.deepEqual(others, []);
  // Reading pixels back for a screenshot makes Chromium's driver mention it; losing the context on purpose is told too.
  const complaints = page.complaints.filter(text => !/GPU stall|WEBGL_lose_context|CONTEXT_LOST/.test(text));
  assert.deepEqual(complaints, []);
});
await page.context().close();

await check('on a dark system it is dark, with enough contrast', async () => {
  const page = await open({ colorScheme: 'dark' });
  assert.ok(mean(decodePng(await page.screenshot({ clip: { x: 0, y: 0, width: 8, height: 8 } })), 0, 0, 1, 1) < 60);
  const { low, count } = await contrasts(page);
  assert.deepEqual(low, []);
  await shot(page, 'dark');
  assert.deepEqual(page.complaints.filter(text => !/GPU stall/.test(text)), []);
  await page.context().close();
  return count + ' texts';
});

for (const [width, height] of [[320, 640], [360, 740], [768, 1024], [1920, 1080]])
  await check(`at ${width}x${height} nothing is cut off`, async () => {
    const page = await open({ viewport: { width, height }, hasTouch: width < 800, deviceScaleFactor: width < 800 ? 2 : 1 });
    const wide = await page.evaluate(() => ({
      page: document.documentElement.scrollWidth,
      elements: [...document.querySelectorAll('body *')].filter(element => !element.closest('.hidden, script, noscript') && element.offsetParent)
        .filter(element => element.getBoundingClientRect().right > innerWidth + .5 || element.getBoundingClientRect().left < -.5)
        .map(element => element.outerHTML.slice(0, 80)),
    }));
    assert.ok(wide.page <= width, 'the page is ' + wide.page + ' wide');
    assert.deepEqual(wide.elements, []);
    const canvas = await page.evaluate(() => {
      const canvas = document.querySelector('canvas');
      return { pixels: canvas.width, shown: canvas.clientWidth * devicePixelRatio, bottom: canvas.getBoundingClientRect().bottom };
    });
    assert.ok(Math.abs(canvas.pixels - canvas.shown) < 1, 'the canvas does not have the pixels of the screen');
    assert.ok(canvas.bottom < height, 'the canvas does not fit the window');
    await shot(page, `${width}x${height}`);
    if (screenshots && width <= 360) await page.screenshot({ path: path.join(screenshots, `${width}x${height}-whole.png`), fullPage: true });
    await page.context().close();
  });

await check('fingers turn and pinch', async () => {
  const page = await open({ viewport: { width: 360, height: 740 }, hasTouch: true });
  const session = await page.context().newCDPSession(page);
  const box = await page.locator('canvas').boundingBox();
  const x = box.x + box.width / 2, y = box.y + box.height / 2;
  const touch = (type, ...points) => session.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  await touch('touchStart', [x, y]);
  for (let i = 1; i <= 6; i++) await touch('touchMove', [x - i * 12, y]);
  await touch('touchEnd');
  const turned = await get(page);
  assert.ok(turned.yaw < -10, JSON.stringify(turned));
  await touch('touchStart', [x - 30, y], [x + 30, y]);
  for (let i = 1; i <= 6; i++) await touch('touchMove', [x - 30 - i * 8, y], [x + 30 + i * 8, y]);
  await touch('touchEnd');
  const pinched = await get(page);
  assert.ok(pinched.zoom > 1.5, JSON.stringify(pinched));
  await page.context().close();
  return `yaw ${turned.yaw.toFixed(0)} degrees, zoom ${pinched.zoom.toFixed(2)}`;
});

await check('the face sways by itself until it is touched', async () => {
  const page = await open({ reducedMotion: 'no-preference' });
  assert.equal((await get(page)).swaying, true);
  const first = (await get(page)).yaw;
  await page.waitForTimeout(700);
  const second = (await get(page)).yaw;
  assert.notEqual(first, second);
  await page.locator('canvas').click();
  assert.equal((await get(page)).swaying, false);
  const resting = (await get(page)).yaw;
  await page.waitForTimeout(300);
  assert.equal((await get(page)).yaw, resting);
  await page.click('#play');
  assert.equal((await get(page)).swaying, true);
  await page.waitForTimeout(300);
  assert.ok(Math.abs((await get(page)).yaw) <= 26);
  await page.click('#reset');
  await page.waitForTimeout(900);
  assert.deepEqual([(await get(page)).yaw, (await get(page)).swaying], [0, false]);
  await page.context().close();
});

await check('without WebGL 2 the page says so, and still gives meshes and maps', async () => {
  const page = await open({
    before: () => {
      const original = HTMLCanvasElement.prototype.getContext;
      HTMLCanvasElement.prototype.getContext = function (kind, ...rest) { return kind.startsWith('webgl') ? null : original.call(this, kind, ...rest); };
    },
  });
  assert.match(await page.textContent('#notice'), /WebGL 2/);
  assert.ok(await page.isVisible('#notice'));
  assert.ok(await page.isDisabled('#savePng'));
  assert.ok((await download(page, '#saveGlb')).body.length > 1000);
  assert.equal(await page.locator('figure img').count(), data.maps.length);
  assert.deepEqual(page.complaints, []);
  await shot(page, 'without-webgl');
  await page.context().close();
});

await browser.close();
if (failed) console.log(failed + ' failed');
process.exit(failed ? 1 : 0);
