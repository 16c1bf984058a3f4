"use strict";

// Everything that comes from events is set as text, never as markup.
function row(cells, tag = "td") {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement(tag);
    td.textContent = cell.text ?? cell;
    if (cell.class) td.className = cell.class;
    tr.append(td);
  }
  return tr;
}

const text = (value) => ({ text: value, class: "text" });

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// age says how long ago a time was, "" if there is none.
function age(time) {
  if (!time) return "";
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  return seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// share is a part of one as a percentage, "" if it is not known.
const share = (part) => (part === undefined ? "" : `${(100 * part).toFixed(1)} %`);

async function refresh() {
  const [ledger, destinations, documents, events] = await Promise.all(
    ["api/ledger", "api/destinations", "api/documents", "api/events?limit=25"].map(get));

  const sum = document.getElementById("sum");
  sum.textContent = `received ${ledger.received} = rejected ${ledger.rejected} + accepted ${ledger.accepted}; ` +
    `stored ${ledger.stored}; residual ${ledger.residual}`;
  sum.className = ledger.residual ? "bad" : "";

  const columns = ["routed", "filtered", "delivered", "retrying", "waiting", "dead", "unrouted"];
  document.getElementById("destinations").replaceChildren(
    row(["destination", ...columns, "events/s", "success", "oldest", text("state")], "th"),
    ...Object.entries(ledger.destinations).map(([name, d]) => {
      const status = destinations.destinations.find((s) => s.destination_name === name) ?? {};
      const state = [status.state, status.reason].filter(Boolean).join(": ");
      return row([name, ...columns.map((c) => ({ text: d[c], class: c === "dead" && d[c] ? "bad" : "" })),
        status.rate?.toFixed(1) ?? "", share(status.success_share), age(status.oldest_unsettled),
        { text: state, class: status.state === "running" ? "text" : "text bad" }]);
    }));

  document.getElementById("documents").replaceChildren(
    ...Object.entries(documents).map(([name, d]) =>
      row([name, text(d.source), { text: d.error ? `not in force: ${d.error}` : `in force since ${d.loaded_at}`, class: d.error ? "text bad" : "text" }])));

  document.getElementById("events").replaceChildren(
    ...events.events.map((e) => row([e.stored_at.slice(11, 19), text(e.event.name ?? ""), text(e.event.user_id ?? e.event.anonymous_id ?? ""), text(JSON.stringify(e.event.data ?? e.event))])));
}

async function loop() {
  try {
    await refresh();
  } catch (err) {
    document.getElementById("sum").textContent = String(err);
  }
  setTimeout(loop, 2000);
}
loop();
