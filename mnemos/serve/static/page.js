// Everything that moves on the page. What a model or a person wrote is only ever set as text: pages come from the
// server with it escaped, and the chat writes textContent.
"use strict";

// Pages that follow the files of a run: on each event the page is asked for again, and its live parts are exchanged.
(() => {
  const address = document.body.dataset.events;
  if (!address) return;
  let again = false;
  let busy = false;

  function exchange(old, fresh) {
    if (old.innerHTML === fresh.innerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    // The element itself stays, so that a screen reader that listens to it hears what is new.
    old.replaceChildren(...Array.from(fresh.childNodes, (node) => document.importNode(node, true)));
    if (focused) Array.from(old.querySelectorAll("[href]")).find((one) => one.getAttribute("href") === focused)?.focus();
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const found = fresh.getElementById(old.id);
        if (found) exchange(old, found);
        else if (!answer.ok) old.textContent = fresh.querySelector("[role=alert]")?.textContent ?? "This is not there any more.";
      }
    } catch {
      // The server is gone for the moment; the stream tries again by itself.
    }
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }

  const stream = new EventSource(address);
  stream.addEventListener("changed", refresh);
  stream.addEventListener("beat", refresh);
  addEventListener("pagehide", () => stream.close());
})();

// Single keys press the button or link that names them, unless somebody types or has turned them off.
(() => {
  const box = document.getElementById("keys");
  if (box) {
    box.checked = localStorage.getItem("keys") !== "off";
    box.addEventListener("change", () => localStorage.setItem("keys", box.checked ? "on" : "off"));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || (box && !box.checked)) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    const found = document.querySelector(`[data-key~="${CSS.escape(event.key)}"]:not(:disabled)`);
    if (!found) return;
    event.preventDefault();
    found.click();
  });
})();

// A vote is sent once, however often a button is pressed.
(() => {
  const form = document.querySelector("form.choices");
  form?.addEventListener("submit", () => {
    setTimeout(() => form.querySelectorAll("button").forEach((one) => (one.disabled = true)));
  });
})();

// Filters show what they say at once.
document.querySelectorAll("form[action='/answers'] select").forEach((one) => {
  one.addEventListener("change", () => one.form.requestSubmit());
});

// The chat: two conversations, each of which goes on from its own answers.
(() => {
  const form = document.getElementById("chat");
  if (!form) return;
  const stop = document.getElementById("stop");
  const said = document.getElementById("said");
  const ask = form.querySelector("button");
  let turns = [[], []];
  let asking = null;

  // So that the server knows that a question comes from the page whose last one is still being answered.
  const page = [...crypto.getRandomValues(new Uint32Array(4))].join("-");

  const names = () => [form.a.value, form.b.value];
  const place = (side) => document.querySelector(`[data-side="${side}"]`);

  function label() {
    names().forEach((name, side) => (document.querySelector(`[data-name="${side}"]`).textContent = name));
    document.querySelector("[data-second]").hidden = !form.b.value;
  }

  function add(side, kind, text) {
    const turn = document.createElement("div");
    turn.className = `turn ${kind}`;
    turn.dir = "auto";
    turn.textContent = text;
    place(side).append(turn);
    return turn;
  }

  function clear() {
    asking?.abort();
    turns = [[], []];
    [0, 1].forEach((side) => place(side).replaceChildren());
    said.textContent = "";
    label();
  }

  const endings = { finished: "", length: "longest answer reached", stopped: "stopped" };

  function take(line, shown) {
    const turn = shown[line.side];
    if ("text" in line) {
      turn.append(line.text);
      return;
    }
    if (line.end === "error") {
      turn.className = "turn error";
      turn.textContent = line.words;
      turns[line.side].pop();
      return;
    }
    if ("whole" in line) turn.textContent = line.whole;
    turns[line.side].push({ role: "assistant", content: turn.textContent });
    const note = [endings[line.end], line.tokens === undefined ? "" : `${line.tokens} tokens`].filter(Boolean).join(", ");
    const small = document.createElement("small");
    small.textContent = note;
    turn.append(small);
  }

  async function read(body, shown) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach((line) => take(JSON.parse(line), shown));
    }
  }

  async function send() {
    if (asking) return;
    const models = names().filter(Boolean);
    const question = form.question.value.trim();
    if (!question) return;
    const shown = models.map((_, side) => {
      turns[side].push({ role: "user", content: question });
      add(side, "user", question);
      return add(side, "assistant", "");
    });
    asking = new AbortController();
    ask.disabled = true;
    stop.disabled = false;
    said.textContent = "Answering …";
    try {
      const answer = await fetch("/ask", {
        method: "POST",
        signal: asking.signal,
        headers: { "content-type": "application/json", "x-form-token": form.dataset.form },
        body: JSON.stringify({
          run: form.dataset.run,
          page,
          sides: models.map((model, side) => ({ model, turns: turns[side] })),
          max_new_tokens: Number(form.max_new_tokens.value),
          temperature: Number(form.temperature.value),
          seed: Number(form.seed.value),
        }),
      });
      if (!answer.ok) throw new Error(await answer.text());
      await read(answer.body, shown);
      said.textContent = "Answered.";
      form.question.value = "";
    } catch (error) {
      const stopped = error.name === "AbortError";
      said.textContent = stopped ? "Stopped." : String(error.message);
      shown.forEach((turn, side) => {
        const last = turns[side].at(-1);
        // What was written until then stays in the conversation; a question without an answer does not.
        if (last?.role !== "user") return;
        if (stopped && turn.textContent) turns[side].push({ role: "assistant", content: turn.textContent });
        else turns[side].pop();
      });
    }
    asking = null;
    ask.disabled = false;
    stop.disabled = true;
    form.question.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  form.question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && asking?.abort());
  stop.addEventListener("click", () => asking?.abort());
  document.getElementById("clear").addEventListener("click", clear);
  [form.a, form.b].forEach((one) => one.addEventListener("change", clear));
  label();
})();
