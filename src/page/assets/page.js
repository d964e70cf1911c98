// Keeps the page current: asks for it again, and changes in place only what is different. Without this file the page
// says the same and is loaded anew now and then. Everything that is shown was written, and escaped, by the server.
"use strict";
(() => {
  const EVERY = 2000;
  const PATIENCE = 10000;
  const live = document.getElementById("live");
  const stamp = document.getElementById("stamp");
  let tag = null;
  let timer = 0;

  const isSame = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  // Makes `old` what `fresh` is. What a person opened, typed or looks at stays as it is.
  function become(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh) || old.nodeName === "INPUT") return;
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      // One with a name is looked for, so that a group that comes or goes doesn't turn others into something else.
      const named = child.id ? [...old.children].find((known) => isSame(known, child)) : null;
      if (named) {
        if (named === place) place = place.nextSibling;
        else old.insertBefore(named, place);
        become(named, child);
      } else if (!child.id && place && !place.id && isSame(place, child)) {
        become(place, child);
        place = place.nextSibling;
      } else {
        old.insertBefore(document.importNode(child, true), place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function say(word, time) {
    if (live.textContent !== word) live.textContent = word;
    live.parentElement.classList.toggle("lost", word !== "live");
    if (time) {
      stamp.dateTime = time.toISOString();
      stamp.textContent = time.toISOString().slice(11, 19);
    }
  }

  function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    const request = new XMLHttpRequest();
    request.open("GET", location.href);
    request.responseType = "document";
    request.timeout = PATIENCE;
    if (tag) request.setRequestHeader("If-None-Match", tag);
    request.onload = () => {
      // Nothing to parse, where nothing changed.
      const fresh = request.status === 304 ? null : request.response;
      if (fresh && fresh.getElementById("main")) {
        tag = request.getResponseHeader("ETag");
        document.title = fresh.title;
        become(document.getElementById("main"), fresh.getElementById("main"));
        become(document.querySelector(".replica"), fresh.querySelector(".replica"));
      }
      say("live", new Date(request.getResponseHeader("Date")));
    };
    request.onerror = request.ontimeout = () => say("no connection; last seen at");
    request.onloadend = () => { timer = setTimeout(look, EVERY); };
    request.send();
  }

  document.addEventListener("visibilitychange", look);
  timer = setTimeout(look, EVERY);
  say("live");
})();
