// Keeps a page up to date: it is told of changes, asks for the page anew, and puts what
// is different into the one that is shown. Everything else works without it.
"use strict";
(() => {
  const main = () => document.getElementById("main");
  const state = document.getElementById("live");
  const words = document.getElementById("live-text");
  const say = document.getElementById("say");

  // How far this browser's clock is behind the server's, in seconds.
  let behind = 0;
  const setClock = () => { behind = Number(main().dataset.now) - Date.now() / 1000; };

  // The same as in the pages: two leading units, cut.
  function span(seconds) {
    const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    if (h >= 48) return h % 24 ? `${d} d ${h % 24} h` : `${d} d`;
    if (h >= 1) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`;
    return m >= 1 ? `${m} min` : `${s} s`;
  }

  function grow() {
    const now = Date.now() / 1000 + behind;
    for (const age of document.querySelectorAll(".age")) {
      const text = span(now - Number(age.dataset.since));
      if (age.textContent !== text) age.textContent = text;
    }
  }

  // become makes an element like another one, and leaves alone what the person who looks
  // has changed: what is typed, what is open, where the focus is.
  function become(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.hasAttribute("data-keep")) return; // it is of when the page was first shown
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
    }
    if (old.localName === "select" && old === document.activeElement) return;
    becomeInside(old, fresh);
  }

  // What tells an element from those beside it, where it has anything.
  const keyOf = (node) => node.dataset?.key || node.id || node.getAttribute?.("aria-labelledby") || "";
  const alike = (a, b) => a && a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

  function becomeInside(old, fresh) {
    const wanted = new Set();
    for (const child of fresh.children) wanted.add(keyOf(child));
    const keyed = new Map();
    for (const child of [...old.children]) {
      if (!keyOf(child)) continue;
      if (wanted.has(keyOf(child))) keyed.set(keyOf(child), child); else child.remove();
    }
    let at = old.firstChild;
    for (const next of fresh.childNodes) {
      const match = keyOf(next) ? keyed.get(keyOf(next)) : at;
      if (!alike(match, next)) {
        old.insertBefore(document.importNode(next, true), at);
        continue;
      }
      keyed.delete(keyOf(next));
      if (match === at) at = at.nextSibling; else old.insertBefore(match, at);
      become(match, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("main");
    if (!fresh) return;
    const focus = document.activeElement;
    const said = main().dataset.say;
    become(main(), fresh);
    if (focus && focus !== document.body && focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
    if (main().dataset.say && main().dataset.say !== said) say.textContent = main().dataset.say;
    setClock();
    grow();
  }

  function tell(kind, text) {
    if (state.dataset.state === kind && words.textContent === text) return;
    state.dataset.state = kind;
    words.textContent = text;
  }

  let busy = false, again = false, listening = false, asking = null;
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      asking = new AbortController();
      try {
        const answer = await fetch(location.href, { headers: { "Locksmith-Fragment": "main" }, cache: "no-store", signal: asking.signal });
        if (answer.status === 401) { location.reload(); return; }
        if (answer.status >= 500) { tell("lost", "Not up to date: the store does not answer"); later(); break; }
        show(await answer.text());
        if (listening) tell("on", "Live");
      } catch {
        if (asking.signal.aborted) break;
        tell("lost", "Reconnecting…");
        later();
      }
    } while (again);
    busy = false;
  }

  let timer = 0;
  const later = () => { clearTimeout(timer); timer = setTimeout(refresh, 2000); };

  let source = null, wait = 1000, retry = 0;
  function listen() {
    clearTimeout(retry);
    source = new EventSource(document.body.dataset.live);
    source.onopen = () => { listening = true; wait = 1000; };
    source.addEventListener("change", refresh);
    source.onerror = () => {
      listening = false;
      tell("lost", "Reconnecting…");
      if (source.readyState !== EventSource.CLOSED) return;
      // The server said no: the page says why, if anything is the matter with it.
      refresh();
      retry = setTimeout(listen, wait);
      wait = Math.min(2 * wait, 30000);
    };
  }
  function stop() {
    clearTimeout(retry);
    clearTimeout(timer);
    asking?.abort();
    source?.close();
    source = null;
    listening = false;
  }

  setClock();
  setInterval(grow, 1000);
  if (document.body.dataset.live) {
    // A page that nobody looks at does not listen: browsers have few connections to one
    // server, and many pages would use them up.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) stop(); else if (!source) listen();
    });
    if (!document.hidden) listen();
    // What ages without a change, as a machine that becomes stale.
    setInterval(() => { if (listening) refresh(); }, 30000);
    // What was sent makes this page out of date, as one about a slot that is given back by
    // it: the answer is the next page. If none comes, as somebody stopped it, this one goes on.
    addEventListener("submit", () => {
      stop();
      retry = setTimeout(listen, 5000);
    });
    addEventListener("pagehide", stop);
    addEventListener("pageshow", (e) => { if (e.persisted && !source) listen(); });
  }
  document.getElementById("notice")?.focus();
})();
