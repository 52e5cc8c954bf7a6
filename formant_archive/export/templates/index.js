"use strict";
// Whatever the calls hold goes into the page as text: nothing here makes markup of data.

const STEP = 100;
const OUTCOMES = {
  archived: "With recording",
  archived_without_recording: "Without recording",
  gone: "Gone before it could be fetched",
};
const SPEAKERS = { agent: "Agent (AI)", human: "Human" };
const STATES = {
  archived: "archived",
  present: "archived",
  absent: "never came. The service was asked for it and did not have it, past the time that is allowed for it to come",
  not_expected: "none, as the call was not completed",
  gone: "gone: the service no longer knew the conversation",
  unknown: "not known, as the record is damaged",
};
const at = (id) => document.getElementById(id);
const fields = ["words", "agent", "status", "outcome", "since", "until"].map(at);

/** Makes an element; what is not an element becomes text. */
function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Shows signs that would reorder or hide text, by their number. */
function plain(text) {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;
  return text.replace(hidden, (sign) => `⟨U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

const folded = (text) => text.normalize("NFC").toLowerCase();
const utc = (time) => (/^\d{4}-/.test(time) ? `${time.slice(0, 10)} ${time.slice(11, 19)} UTC` : time);

/** Gives a time as a heading has it. */
function spoken(time) {
  if (!/^\d{4}-/.test(time)) return time ? `${time} ms` : "";
  return `${new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium", timeZone: "UTC" }).format(new Date(time))} UTC`;
}

/** Gives a time in the reader's own zone. */
function local(time) {
  const format = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  return `${format.format(new Date(time))} (${format.resolvedOptions().timeZone})`;
}

function bothTimes(time) {
  if (!time) return "not known";
  return /^\d{4}-/.test(time) ? `${utc(time)}\n${local(time)}` : `${time} ms, which is no date`;
}

function lasting(seconds) {
  const whole = Math.round(Number(seconds));
  return seconds === "" || seconds === null ? "" : `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === "") continue;
    list.append(make("dt", {}, plain(name)), make("dd", { dir: "auto" }, value instanceof Node ? value : plain(value)));
  }
  return list;
}

function table(kind, heads, rows) {
  const head = make("tr", {}, ...heads.map((one) => make("th", { scope: "col" }, one)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make("table", { class: kind }, make("thead", {}, head), make("tbody", {}, ...body));
}

/** Says what is missing, with the questions that were asked in vain. */
function missing(what, { state, probes }) {
  const notice = make("div", { class: "notice" }, make("p", {}, make("strong", {}, what), `: ${STATES[state] ?? state}.`));
  if (probes.length) {
    const rows = probes.map(([time, status, type]) => [utc(time), status, plain(type)]);
    const asked = probes.length === 1 ? "1 question" : `${probes.length} questions`;
    const evidence = table("probes", ["Asked", "HTTP status", "Answer"], rows);
    notice.append(make("details", { open: "" }, make("summary", {}, `${asked} to the service`), evidence));
  }
  return notice;
}

/** Gives the player; on paper, what would be heard. */
function player(call, isPaper) {
  const { url, audio, state } = call.recording;
  if (state !== "archived") return missing("Recording", call.recording);
  if (!url) return "";
  const heard = isPaper ? "" : make("audio", { controls: "", preload: "metadata", src: url, "aria-label": "Recording of the call" });
  const about = audio
    ? `Recording: ${audio.seconds} s, ${audio.sample_rate} Hz, ${audio.channels === 1 ? "mono" : `${audio.channels} channels`}, ${audio.codec}`
    : "Recording, as it was served: it cannot be read as WAV";
  return make("figure", { class: "player" }, heard, make("figcaption", {}, about));
}

/** Gives a text with the searched words marked in it. */
function marked(text, words) {
  const shown = plain(text);
  if (!words.length) return [shown];
  const either = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  return shown.split(new RegExp(`(${either})`, "giu")).map((piece, index) => (index % 2 ? make("mark", {}, piece) : piece));
}

function transcript(call, words) {
  const part = make("section", {}, make("h3", {}, "Transcript"));
  if (call.transcript.state !== "present") part.append(missing("Transcript", call.transcript));
  if (!call.turns.length) return part;
  const turns = call.turns.map(([role, message], index) => {
    const who = make("b", {}, SPEAKERS[role] ?? (plain(role) || "Speaker not named"), " ", make("small", {}, index + 1));
    const kind = role in SPEAKERS ? role : "other";
    return make("li", { class: kind }, who, make("p", { dir: "auto" }, ...marked(message, words)));
  });
  part.append(make("ol", { class: "turns" }, ...turns));
  return part;
}

function damage(call) {
  if (!call.damage.length) return "";
  const list = make("ul", {}, ...call.damage.map((one) => make("li", {}, plain(one))));
  const said = "This conversation is not whole. What is missing or altered in the archive was left out:";
  return make("div", { class: "notice damage" }, make("p", {}, make("strong", {}, said)), list);
}

function files(call) {
  const rows = call.files.map(([name, url, size, sha256]) => [
    url ? make("a", { href: url }, name) : `${name} (not here)`,
    make("code", {}, sha256),
    size && `${Number(size).toLocaleString("en")} bytes`,
  ]);
  return make("section", {}, make("h3", {}, "Files and their SHA-256"), table("files", ["File", "SHA-256", "Size"], rows));
}

/** Shows a conversation whole: on the screen with the searched words marked, or on paper. */
function article(call, words, isPaper) {
  const made = make("article", {});
  made.append(
    make("h2", { tabindex: "-1" }, call.start ? `Call of ${spoken(call.start)}` : "Call, start not known"),
    make("p", { class: "where" }, make("bdi", { class: "id" }, plain(call.id))),
    damage(call),
    player(call, isPaper),
    transcript(call, words),
  );
  if (call.results.length) made.append(make("section", {}, make("h3", {}, "Results, as the agent noted them"), facts(call.results)));
  made.append(
    make("section", {}, make("h3", {}, "Details"), facts([
      ["Agent", call.agent],
      ["Status", call.status],
      ["Archived", OUTCOMES[call.outcome]],
      ["Start", bothTimes(call.start)],
      ["End", bothTimes(call.end)],
      ["Duration, as listed", call.duration && `${call.duration} s`],
      ...call.details,
      ["Remarks", call.remarks.join("\n")],
      ["Settled", call.settled && `${utc(call.settled)} by formant-archive ${call.writer}`],
      ["Named by", `manifest ${call.manifest}`],
      ["Folder", call.folder],
    ])),
    files(call),
  );
  return made;
}

function row(call) {
  const link = make("a", { href: call.href });
  const parts = [`Agent ${call.agent}`, call.status, lasting(call.duration)].filter(Boolean).map(plain);
  link.append(make("strong", {}, call.start ? utc(call.start) : "Start not known"), make("span", {}, parts.join(" · ")));
  if (call.damage.length) link.append(make("span", { class: "flag damage" }, "Not whole"));
  if (call.outcome !== "archived") link.append(make("span", { class: "flag" }, OUTCOMES[call.outcome]));
  if (call.transcript.state === "absent") link.append(make("span", { class: "flag" }, "Without transcript"));
  link.append(make("bdi", { class: "id" }, plain(call.id)));
  return make("li", {}, link);
}

/** All that a search looks through, made once. */
function haystack(call) {
  call.haystack ??= folded([call.id, call.agent, call.status, ...call.turns.map(([, message]) => message)].join("\n"));
  return call.haystack;
}

const calls = JSON.parse(at("calls").textContent);
const byAddress = new Map();
for (const call of calls) {
  call.href = `#${encodeURIComponent(call.id)}`;
  byAddress.set(call.href, call);
}
let found = calls;
let shown = 0;

function searched() {
  return folded(at("words").value).split(/\s+/).filter(Boolean);
}

function matches(call, words) {
  const [, agent, status, outcome, since, until] = fields.map((field) => field.value);
  const day = /^\d{4}-/.test(call.start) ? call.start.slice(0, 10) : "";
  return (
    (!agent || call.agent === agent) &&
    (!status || call.status === status) &&
    (!outcome || call.outcome === outcome) &&
    (!since || (day && day >= since)) &&
    (!until || (day && day <= until)) &&
    words.every((word) => haystack(call).includes(word))
  );
}

function showMore() {
  const next = found.slice(shown, shown + STEP);
  at("list").append(...next.map(row));
  shown += next.length;
  at("more").hidden = shown === found.length;
  at("more").textContent = `Show ${Math.min(STEP, found.length - shown)} more`;
  markCurrent();
}

function filter() {
  const words = searched();
  found = calls.filter((call) => matches(call, words));
  shown = 0;
  at("list").replaceChildren();
  showMore();
  const all = calls.length.toLocaleString("en");
  at("count").textContent = found.length === calls.length
    ? `${all} ${calls.length === 1 ? "conversation" : "conversations"}. Printing prints them all.`
    : `${found.length.toLocaleString("en")} of ${all} conversations. Printing prints these.`;
}

function markCurrent() {
  for (const link of at("list").querySelectorAll("a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** Links to the list and to the neighbours. */
function walk(call) {
  const place = found.indexOf(call);
  const made = make("p", { class: "walk" }, make("a", { href: "#" }, "Overview"));
  const link = (to, text) => to && made.append(make("a", { href: to.href }, text));
  if (place >= 0) {
    link(found[place - 1], "Previous");
    link(found[place + 1], "Next");
  }
  return made;
}

function read() {
  const call = byAddress.get(location.hash);
  at("reading").hidden = !call;
  at("cover").hidden = Boolean(call);
  document.body.classList.toggle("reading", Boolean(call));
  at("reading").replaceChildren();
  markCurrent();
  if (!call) return;
  const shownCall = article(call, searched(), false);
  at("reading").append(walk(call), ...shownCall.childNodes);
  scrollTo(0, 0);
  at("reading").querySelector("h2").focus({ preventScroll: true });
}

function choices(select, values, names = {}) {
  for (const value of [...new Set(values)].sort()) select.append(make("option", { value }, plain(names[value] ?? value)));
}

choices(at("agent"), calls.map((call) => call.agent));
choices(at("status"), calls.map((call) => call.status));
choices(at("outcome"), calls.map((call) => call.outcome), OUTCOMES);
for (const field of fields) field.addEventListener("input", filter);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
document.querySelector("form").hidden = false;
at("more").addEventListener("click", showMore);
addEventListener("hashchange", read);
addEventListener("beforeprint", () => at("print").replaceChildren(...found.map((call) => article(call, [], true))));
addEventListener("afterprint", () => at("print").replaceChildren());
filter();
read();
