"use strict";
// What is to be done, and each version's way through the server.

const sameSettings = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const ofSettings = (picture, settings) => picture.versions.filter((version) => !version.part && sameSettings(version.settings, settings));
const isMade = (picture, settings) => ofSettings(picture, settings).some(({ state }) => state !== "failed" && state !== "cancelled");
const hasFailed = (picture, settings) => ofSettings(picture, settings).some(({ state }) => state === "failed");
// What has failed waits to be asked for again by hand.
const pending = (settings) => pictures.filter((picture) => !picture.trouble && !isMade(picture, settings)
  && !hasFailed(picture, settings) && !forecastOf(picture, settings)?.trouble);

function planAll() {
  if (!offer) return;
  const settings = settingsNow();
  const start = by("start");
  by("list").hidden = !pictures.length;
  by("drop").hidden = pictures.length > 0;
  viewer.hidden = !pictures.length;
  document.body.classList.toggle("empty", !pictures.length);
  if (typeof settings === "string") {
    start.disabled = true;
    by("plan").textContent = settings;
    by("plan").classList.add("wrong");
    return;
  }
  by("plan").classList.remove("wrong");
  const todo = pending(settings);
  start.disabled = !todo.length;
  start.textContent = pictures.length > 1 && todo.length ? `Enlarge ${countOf(todo.length, "picture")}` : "Enlarge";
  const known = todo.map((picture) => forecastOf(picture, settings)).filter(Boolean);
  const pixels = known.reduce((sum, { width, height }) => sum + width * height, 0);
  const isTimed = known.length > 0 && known.every(({ seconds }) => Number.isFinite(seconds));
  const seconds = isTimed ? known.reduce((sum, forecast) => sum + forecast.seconds, 0) : null;
  const words = [];
  if (!pictures.length) words.push("No picture yet.");
  else if (!todo.length) {
    const left = pictures.filter((picture) => !isMade(picture, settings)).length;
    words.push(left === pictures.length ? `${left === 1 ? "It cannot" : "None of them can"} be made; the list says why.`
      : left ? `${countOf(left, "picture")} cannot be made; the list says why.`
      : `All are made${isBusy() ? " or being made" : ""} with these settings.`);
  } else if (known.length) {
    words.push(todo.length === 1 ? sizeText(known[0].width, known[0].height) : `${megapixels(pixels)} in all`);
    words.push(seconds === null ? "time not known yet" : aboutText(seconds));
    if (known.length < todo.length) words.push(`${todo.length - known.length} not known yet`);
  } else words.push("Size and time are not known yet.");
  by("plan").textContent = words.filter(Boolean).join(", ");
  const results = pictures.flatMap(({ versions }) => versions.filter(({ state }) => state === "done"));
  by("save-all").hidden = results.length < 2;
  by("counted").textContent = String(pictures.length);
}

function enlarge(picture, settings, part = null) {
  const version = { picture, settings, part, state: "waiting", title: "", share: 0, note: "", blob: null, view: null,
                    views: {}, hasViews: false, preview: null, id: null, abort: new AbortController(), expected: null, seconds: null };
  version.title = titleOf(version);
  version.expected = forecastOf(picture, settings, part)?.seconds ?? null;
  picture.versions.push(version);
  batch.push(version);
  return version;
}

function startAll() {
  const settings = settingsNow();
  if (typeof settings === "string") return;
  const todo = pending(settings).map((picture) => enlarge(picture, settings));
  if (!todo.length) return;
  const first = todo.find(({ picture }) => picture === shown) ?? todo[0];
  select(first.picture, first);
  say(`${countOf(todo.length, "picture")} started.`);
  changed();
  pump();
}

function startOne(part) {
  const settings = settingsNow();
  if (typeof settings === "string" || !shown) return;
  closePart();
  const version = enlarge(shown, settings, part);
  select(shown, version);
  say(part ? "The part is being tried." : `${shown.name} started.`);
  changed();
  pump();
}

function pump() {
  const all = pictures.flatMap(({ versions }) => versions);
  let active = all.filter(({ state }) => ["sending", "queued", "running"].includes(state)).length;
  for (const version of isGone ? [] : all) {
    if (active >= AT_ONCE) break;
    if (version.state !== "waiting") continue;
    active += 1;
    run(version).finally(pump);
  }
  if (batch.length && batch.every(({ state }) => OVER.includes(state))) { finished(); drawTotal(); planAll(); }
}

function finished() {
  const done = batch.filter(({ state }) => state === "done").length;
  const failed = batch.filter(({ state }) => state === "failed").length;
  if (done || failed) say(`${countOf(done, "picture")} done${failed ? `, ${failed} failed` : ""}.`);
  batch = [];
}

async function run(version) {
  const { signal } = version.abort;
  version.state = "sending";
  version.note = "sending";
  changed(version);
  try {
    let job = version.id ? await known(version) : null;
    job ??= await send(version);
    version.id = job.id;
    follow(version, job);
    while (!["done", "failed", "cancelled", "expired"].includes(job.state)) {
      for await (const { event, data } of server.events(`v1/jobs/${job.id}/events`, signal)) {
        if (event === "job") follow(version, job = data);
        else if (event === "preview") { version.preview = data.image; if (shownVersion === version) drawViewer(); }
      }
      if (["done", "failed", "cancelled", "expired"].includes(job.state)) break;
      await pause(0.5, signal);
      follow(version, job = await server.json(`v1/jobs/${job.id}`, { signal }));
    }
    if (job.state === "done") await take(version, job);
    else if (job.state === "cancelled") version.state = "cancelled";
    else throw new Trouble(sentenceOf(job), { status: 500 });
  } catch (error) {
    if (signal.aborted) version.state = "cancelled";
    else if (error.isGone) { version.state = "waiting"; lost(error); }
    else { version.state = "failed"; version.note = error.message; say(`${version.picture.name}: ${error.message}`); }
  }
  changed(version);
}

const sentenceOf = ({ state, error }) => error?.detail ?? error?.title
  ?? (state === "expired" ? "The server has forgotten this picture. Make it again." : "It failed; the server's log says more.");

// The job as it is now; null where the server, perhaps a new one, knows nothing of it.
async function known(version) {
  try {
    return await server.json(`v1/jobs/${version.id}`, { signal: version.abort.signal });
  } catch (error) {
    if (error.status === 404 || error.status === 410) return null;
    throw error;
  }
}

async function send(version) {
  const { picture, part, abort: { signal } } = version;
  const { model, preset, scale, long_edge, seed, format, quality } = partSettings(version.settings, picture, part);
  const form = new FormData();
  form.append("image", picture.file, picture.file.name || "pasted.png");
  const fields = { model, preset, scale, long_edge, seed, format, quality };
  for (const [name, value] of Object.entries(fields)) if (value !== undefined && value !== null) form.append(name, value);
  if (part) form.append("crop", [part.x, part.y, part.width, part.height].join(","));
  const { evaluations } = modelNow().presets[preset] ?? {};
  const previews = shown === picture && evaluations > 1 ? `&previews=${Math.ceil(evaluations / 6)}` : "";
  for (;;) {
    try {
      // Not ended halfway: the server might have begun a job whose number nobody knows.
      const job = await server.json(`v1/upscale?wait=false${previews}`, { method: "POST", body: form });
      if (signal.aborted) forget(job.id);
      signal.throwIfAborted();
      return job;
    } catch (error) {
      if (![429, 503].includes(error.status)) throw error;  // it is full, or stops for a while
      const seconds = Math.min(Math.max(error.retryAfter ?? 2, 1), 60);
      const why = error.status === 429 ? "the server is busy" : "the server is stopping";
      version.note = `${why}, again in ${timeText(seconds)}`;
      changed(version);
      await pause(seconds, signal);
    }
  }
}

function follow(version, job) {
  version.state = job.state === "running" ? "running" : job.state === "queued" ? "queued" : version.state;
  version.seconds = job.seconds ?? version.seconds;
  version.expected = job.expected_seconds ?? version.expected;
  version.size = job.width ? { width: job.width, height: job.height } : version.size;
  version.share = job.steps ? job.step / job.steps : version.share;
  if (job.state === "running") version.note = job.steps ? `step ${job.step} of ${job.steps}` : "being made";
  if (job.state === "queued") version.note = job.place ? `queued, place ${job.place}` : "queued";
  changed(version);
}

async function take(version, job) {
  const { signal } = version.abort;
  const { picture } = version;
  version.blob = await server.blob(`v1/jobs/${job.id}/result`, { signal });
  const address = URL.createObjectURL(version.blob);
  const size = await sizeFromAddress(address);
  if (size) {
    version.size = size;
    version.view = address;
  } else {
    URL.revokeObjectURL(address);
    version.view = URL.createObjectURL(await server.blob(`v1/jobs/${job.id}/result?view=png`, { signal }));
  }
  signal.throwIfAborted();
  version.state = "done";
  version.share = 1;
  version.note = version.seconds === null ? "" : timeText(version.seconds);
  version.name = resultName(version, job.format);
  version.made = new Date();
  if (version.preview) version.preview = null;
  paceIsBetterKnown();
  say(`${picture.name}, ${version.title}, is done.`);
  if (shown === picture && (!shownVersion || shownVersion.state !== "done" || shownVersion === version)) select(picture, version);
}

// As `infer` names it; what else was chosen is added where the name is taken.
function resultName(version, format) {
  const { picture, settings, part } = version;
  const folder = picture.path.slice(0, picture.path.length - picture.path.split("/").pop().length);
  const suffix = SUFFIXES[format] ?? SUFFIXES[version.blob.type.replace("image/", "")] ?? ".png";
  const parts = [picture.path.split("/").pop().replace(/\.[^.]*$/, "") || "picture",
                 settings.scale ? `x${settings.scale}` : `long${settings.long_edge}`];
  if (part) parts.push(`part${part.x}-${part.y}`);
  const taken = new Set(pictures.flatMap(({ versions }) => versions.map(({ name }) => name)));
  const more = [settings.preset, `seed${settings.seed}`, settings.model];
  let name = folder + parts.join("_") + suffix;
  while (taken.has(name) && more.length) { parts.push(more.shift()); name = folder + parts.join("_") + suffix; }
  for (let number = 2; taken.has(name); number += 1) name = `${folder}${parts.join("_")}_${number}${suffix}`;
  return name;
}

const forget = (id) => { server.request(`v1/jobs/${id}`, { method: "DELETE" }).catch(() => {}); };

function cancel(version, isOfMany = false) {
  const { id, state } = version;
  if (OVER.includes(state)) return;
  version.abort.abort();
  version.state = "cancelled";
  version.note = "";
  if (id) forget(id);
  if (!isOfMany) changed(version);
}

function drop(version) {
  cancel(version, true);
  const { picture } = version;
  picture.versions.splice(picture.versions.indexOf(version), 1);
  batch = batch.filter((other) => other !== version);
  for (const address of [version.view, ...Object.values(version.views)]) if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
  if (shownVersion === version) shownVersion = latestOf(picture);
}

function again(version) {
  const { picture, settings, part } = version;
  drop(version);
  const next = enlarge(picture, settings, part);
  if (shown === picture) shownVersion = next;
  changed();
  pump();
}

async function lost(error) {
  if (isGone || !error.isGone) return;
  isGone = true;
  warn(`${error.message} Is idm-deploy serve still running, and the network up? This page goes on when it is back.`);
  for (let wait = 1; !(await server.answers()); wait = Math.min(2 * wait, 15)) await pause(wait);
  isGone = false;
  warn("");
  say("The server answers again.");
  if (!offer) await begin();
  drawSoon();
  pump();
}

