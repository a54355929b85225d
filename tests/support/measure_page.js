// What a test asks a page of a sweep: which texts of its plots are cut or lie on others, and where a trial is selected.
window.charts = () => [...document.querySelectorAll(".chart svg")];
window.texts = (svg) => [...svg.querySelectorAll("text")].filter((one) =>
  one.textContent && getComputedStyle(one).opacity !== "0" && one.getBoundingClientRect().width > 0);
window.nameOf = (svg, ...texts) => `${svg.closest("section").id}: ${texts.join(" / ")}`;

// Texts that leave their plot or the page, or end in an ellipsis.
window.cut = () => charts().flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  const right = Math.min(frame.right, document.documentElement.clientWidth);
  return texts(svg).filter((one) => {
    const box = one.getBoundingClientRect();
    const inside = box.left >= frame.left - 1 && box.right <= right + 1 && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
    return !inside || one.textContent.includes("…");
  }).map((one) => nameOf(svg, one.textContent));
});

// Texts of a plot that lie on each other: boxes as they are on the screen, and of tilted labels along their own lines.
window.overlaps = () => charts().flatMap((svg) => {
  const tilt = (one) => Number(/rotate\((-?[\d.]+)/.exec(one.getAttribute("transform") ?? "")?.[1] ?? 0);
  const apart = (one, other) => one.left >= other.right - 1 || other.left >= one.right - 1
    || one.top >= other.bottom - 2 || other.top >= one.bottom - 2;
  const box = (one) => {
    const angle = tilt(one) * Math.PI / 180, { x, y, width, height } = one.getBBox(), { e, f } = one.getCTM();
    const [left, top] = [e * Math.cos(angle) + f * Math.sin(angle) + x, f * Math.cos(angle) - e * Math.sin(angle) + y];
    return { left, top, right: left + width, bottom: top + height };
  };
  const all = texts(svg);
  return all.flatMap((one, i) => all.slice(i + 1).filter((other) =>
    tilt(one) === tilt(other) && !apart(box(one), box(other)),
  ).map((other) => nameOf(svg, one.textContent, other.textContent)));
});

window.inks = () => [...new Set(charts().flatMap(texts).map((one) => getComputedStyle(one).fill))];

// The dot of a trial in a plot.
window.dot = (plot, trial) => [...document.querySelectorAll(`#${plot} .chart svg path`)].find((one) =>
  one.__data__?.mark?.marktype === "symbol" && one.__data__.datum?.trial === trial);

// The plots in which a trial is shown as selected.
window.picked = () => [...document.querySelectorAll("section:has(.chart)")].filter((one) =>
  one.querySelector("[stroke='var(--picked)'], [fill='var(--picked)']")).map((one) => one.id);
window.row = (trial) => document.querySelector(`#leaderboard [data-trial="${trial}"]`);
window.pickedRows = () => [...document.querySelectorAll("tr.selected")].map((one) => [one.closest("section").id, one.dataset.trial]);
window.panelTitle = () => document.getElementById("selected").hidden ? "" : document.querySelector("#selected b").innerText;
