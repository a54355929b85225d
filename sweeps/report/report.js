// The script of a sweep's page: it draws the plots, shows and selects a trial everywhere, and refreshes a live page.
"use strict";
(() => {
  const views = new Map(); // the place of a chart -> its Vega view
  const sources = new WeakMap(); // a part of the page -> its HTML as it was written
  const LIVE = document.body.dataset.tag !== undefined; // served by `espalier ui`
  const PAUSE_MS = 1500; // between two questions for a newer page
  let tag = document.body.dataset.tag;
  let trials = read(document, "trials");
  let selected = null; // the number of a trial

  function read(page, id) {
    return JSON.parse(page.getElementById(id)?.textContent ?? "{}");
  }

  function element(name, text, ...children) {
    const made = document.createElement(name);
    made.textContent = text;
    made.append(...children);
    return made;
  }

  // ---- Plots

  // What cannot be drawn says so in its place, and all else goes on.
  async function draw(place) {
    try {
      await embed(place);
    } catch (error) {
      place.append(element("p", `This plot cannot be drawn: ${error.message}`));
      reportError(error);
    }
  }

  async function embed(place) {
    const spec = { ...read(document, "style"), ...JSON.parse(place.querySelector("script").textContent) };
    const canvas = place.appendChild(document.createElement("div"));
    const options = { actions: false, ast: true, renderer: "svg", tooltip: hover }; // `ast`: no code is made of text
    const { view } = await vegaEmbed(canvas, spec, options);
    view.addEventListener("click", (_, item) => select(item?.datum?.trial ?? null));
    views.set(place, view);
    if (selected !== null) await view.signal("selected", selected).runAsync();
  }

  async function drawAll(part) {
    for (const place of part.querySelectorAll(".chart")) await draw(place);
  }

  function forget(part) {
    for (const place of part.querySelectorAll(".chart")) {
      views.get(place)?.finalize();
      views.delete(place);
    }
  }

  // ---- What the pointer is on

  const tip = document.body.appendChild(element("div", ""));
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;

  function hover(_, event, item, value) {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    const trial = trials[item.datum?.trial];
    const own = typeof value === "object" ? Object.entries(value) : [];
    tip.replaceChildren(...(trial ? [element("b", trial.title)] : []), facts([...own, ...(trial?.facts ?? [])]));
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - width - 6);
    const above = event.clientY + 14 + height > innerHeight;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${Math.max(6, above ? event.clientY - height - 10 : event.clientY + 14)}px`;
  }

  function facts(entries) {
    return element("dl", "", ...entries.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
  }

  // ---- The selected trial

  const panel = document.getElementById("selected");

  function select(number) {
    const other = number !== selected;
    selected = number === null || trials[number] ? number : null;
    for (const view of views.values()) view.signal("selected", selected).runAsync();
    for (const row of document.querySelectorAll("[data-trial]"))
      row.classList.toggle("selected", selected !== null && row.dataset.trial === String(selected));
    if (panel) show(other);
  }

  function show(other) {
    panel.hidden = selected === null;
    if (panel.hidden) return;
    const trial = trials[selected];
    panel.querySelector("b").textContent = trial.title;
    panel.querySelector(".facts").replaceChildren(...facts(trial.facts).children);
    const actions = panel.querySelector(".actions");
    if (!actions) return;
    panel.querySelector("[name=stop]").hidden = !trial.runs;
    panel.querySelector("[name=clone]").hidden = !trial.clones;
    if (!other) return; // what is typed there stays
    actions.querySelector("output").textContent = "";
    const inputs = Object.entries(trial.values).map(([axis, value]) => {
      const input = document.createElement("input");
      Object.assign(input, { name: axis, value, defaultValue: value, autocomplete: "off" });
      return element("label", axis, input);
    });
    panel.querySelector(".values").replaceChildren(...inputs);
    panel.querySelector("form").hidden = true;
  }

  document.addEventListener("click", (event) => {
    const row = event.target.closest("[data-trial]");
    if (row && getSelection().isCollapsed) select(row.classList.contains("selected") ? null : Number(row.dataset.trial));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") select(null);
    if (event.key === "Enter" && event.target.matches("[data-trial]")) select(Number(event.target.dataset.trial));
  });
  panel?.querySelector("[name=close]").addEventListener("click", () => select(null));

  // ---- Stop and clone

  async function act(verb, values) {
    const said = panel.querySelector("output");
    said.textContent = "…";
    try {
      const body = JSON.stringify({ trial: String(selected), values });
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(`${location.pathname}/${verb}`, { method: "POST", headers, body });
      said.textContent = (await answer.json()).said;
    } catch {
      said.textContent = "no answer: is `espalier ui` still running?";
    }
  }

  panel?.querySelector("[name=stop]")?.addEventListener("click", () => act("stop", []));
  panel?.querySelector("[name=clone]")?.addEventListener("click", () => {
    panel.querySelector("form").hidden = !panel.querySelector("form").hidden;
  });
  panel?.querySelector("form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const changed = [...event.target.querySelectorAll("input")].filter((one) => one.value !== one.defaultValue);
    act("clone", changed.map((one) => `${one.name}=${one.value}`));
  });

  // ---- A newer page in the place of this one

  function keepSources(page) {
    for (const part of page.querySelectorAll("header, section")) sources.set(part, part.outerHTML);
  }

  function inUse(part) {
    const marked = getSelection();
    return !marked.isCollapsed && part.contains(marked.anchorNode);
  }

  async function replaceBy(fresh, own) {
    [...fresh.querySelectorAll("details")].forEach((one, i) => (one.open = own.querySelectorAll("details")[i]?.open ?? false));
    if (fresh.querySelector(".chart")) { // drawn out of sight first, so that nothing flickers
      fresh.style.cssText = `position: absolute; visibility: hidden; width: ${own.offsetWidth}px`;
      own.after(fresh);
      await drawAll(fresh);
      fresh.style.cssText = "";
    }
    const scrolled = [...own.querySelectorAll(".box")].map((box) => box.scrollLeft);
    forget(own);
    own.replaceWith(fresh);
    fresh.querySelectorAll(".box").forEach((box, i) => (box.scrollLeft = scrolled[i] ?? 0));
  }

  // Make the children of `old` those of `fresh`. Those that are equal stay as they are. Return whether one was in use.
  async function merge(old, fresh) {
    const known = new Map([...old.children].map((one) => [one.id, one]));
    let [after, waits] = [null, false];
    for (const one of [...fresh.children]) {
      const own = known.get(one.id);
      known.delete(one.id);
      let there = own;
      if (own?.classList.contains("flow")) waits = (await merge(own, one)) || waits;
      else if (own && sources.get(own) === sources.get(one)) there = own;
      else if (own && inUse(own)) waits = true;
      else if (own) await replaceBy((there = one), own);
      if (there === undefined) {
        there = one;
        after ? after.after(there) : old.prepend(there);
        await drawAll(there);
      } else if (there.previousElementSibling !== after) after ? after.after(there) : old.prepend(there);
      after = there;
    }
    for (const gone of known.values()) {
      forget(gone);
      gone.remove();
    }
    return waits;
  }

  async function take(fresh) {
    const seen = [...document.querySelectorAll("header, section")].find((one) => one.getBoundingClientRect().bottom > 0);
    const [id, top] = [seen?.id, seen?.getBoundingClientRect().top];
    keepSources(fresh);
    trials = read(fresh, "trials");
    document.title = fresh.title;
    const waits = await merge(document.getElementById("page"), fresh.getElementById("page"));
    const now = id && document.getElementById(id)?.getBoundingClientRect().top;
    if (now !== undefined && now !== top) scrollBy(0, now - top);
    select(selected);
    return !waits;
  }

  async function refresh() {
    const began = performance.now();
    const state = document.getElementById("live");
    try {
      if (document.visibilityState === "visible") {
        const answer = await fetch(location.pathname, { headers: { "If-None-Match": tag }, cache: "no-store" });
        if (answer.status === 200) {
          const newer = answer.headers.get("ETag");
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          if (await take(page)) tag = newer;
        } else if (answer.status !== 304) throw new Error(answer.status);
      }
      state.textContent = "live";
    } catch {
      state.textContent = "not live: `espalier ui` does not answer";
    }
    setTimeout(refresh, Math.max(PAUSE_MS, 5 * (performance.now() - began))); // a slow machine is not asked all the time
  }

  async function start() {
    keepSources(document);
    if (document.querySelector(".chart")) await drawAll(document);
    document.body.dataset.drawn = "";
    if (LIVE) setTimeout(refresh, PAUSE_MS);
  }
  start();
})();
