// Building blocks of every section: elements, badges, sortable tables, charts. Text is never parsed as HTML.
'use strict';

const OUTCOMES = ['passed', 'warned', 'failed', 'skipped'];
const SIGNS = {passed: '✓', warned: '!', failed: '✗', skipped: '–'};
const $ = id => document.getElementById(id);

// el('td', {class: 'number', onclick: f}, 'text', element, null) creates an element. Null and false children are skipped.
function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

const two = number => String(number).padStart(2, '0');
const given = value => value !== null && value !== undefined;

// 2026-11-24 10:45, in UTC.
const time = at => given(at) ? new Date(at).toISOString().slice(0, 16).replace('T', ' ') : '';

const whole = number => given(number) ? number.toLocaleString('en-US', {maximumFractionDigits: 0}) : '';

// 0 s, 0.34 s, 12.5 s, 3 min 05 s, 2 h 07 min.
function duration(seconds) {
  if (!given(seconds)) return '';
  if (seconds === 0) return '0 s';
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const all = Math.round(seconds);
  if (all < 3600) return `${Math.floor(all / 60)} min ${two(all % 60)} s`;
  return `${Math.floor(all / 3600)} h ${two(Math.floor(all % 3600 / 60))} min`;
}

// 812 B, 3.1 MB, 1.2 TB: decimal units.
function bytes(count) {
  if (!given(count)) return '';
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 4);
  return `${power ? (count / 1000 ** power).toFixed(1) : count} ${['B', 'kB', 'MB', 'GB', 'TB'][power]}`;
}

const age = hours => !given(hours) ? '' : hours < 48 ? `${hours.toFixed(1)} h` : `${(hours / 24).toFixed(1)} days`;

// A long name may break after underscores.
const wrapping = name => name.split(/(?<=_)(?!_)/).flatMap(part => [part, el('wbr')]);

function badge(outcome, word) {
  if (!outcome) return '';
  return el('span', {class: `badge ${outcome}`}, `${SIGNS[outcome] || ''} `, el('span', {class: 'word'}, word || outcome));
}

// Only web addresses become links.
function link(address, words, otherwise = address) {
  return /^https?:\/\//i.test(address) ? el('a', {href: address, rel: 'noreferrer noopener'}, words) : otherwise;
}

const empty = words => el('p', {class: 'empty'}, words);

function show(id, ...children) {
  $(id).replaceChildren(...children.filter(Boolean));
}

// A list that shows `step` entries, and a button that shows more.
function growing(entries, step, draw, holder) {
  let shown = 0;
  const more = el('button', {type: 'button', class: 'more', onclick: () => grow(true)});
  function grow(asked) {
    const added = entries.slice(shown, shown + step).map(draw);
    holder.append(...added);
    shown += added.length;
    more.hidden = shown >= entries.length;
    more.textContent = `Show more (${whole(entries.length - shown)} left)`;
    if (asked) say(`${shown} of ${entries.length} shown`);
  }
  grow(false);
  return more;
}

const say = words => { $('said').textContent = words; };

// A table whose columns sort. columns: {title, value: row => sortable, show: row => text or element, number, time}.
// The first column heads its row.
function table(caption, columns, rows, {step = 50, none = 'No row matches the filters.'} = {}) {
  if (!rows.length) return empty(none);
  const holder = el('div');
  let sorted = null;
  function draw(focus) {
    const ordered = sorted ? [...rows].sort(order) : rows;
    const heads = columns.map((column, place) => {
      const mine = sorted && sorted.place === place;
      const button = el('button', {type: 'button', onclick: () => sort(place)}, column.title, mine ? (sorted.down ? ' ▾' : ' ▴') : '');
      return el('th', {scope: 'col', class: column.number ? 'number' : null, 'aria-sort': mine ? (sorted.down ? 'descending' : 'ascending') : null}, button);
    });
    const body = el('tbody');
    const more = growing(ordered, step, row => el('tr', null, columns.map((column, place) => cell(column, row, place))), body);
    const made = el('table', null, el('caption', null, caption), el('thead', null, el('tr', null, heads)), body);
    holder.replaceChildren(el('div', {class: 'scroll', role: 'region', tabindex: 0, 'aria-label': caption}, made), more);
    if (given(focus)) heads[focus].firstChild.focus();
  }
  function cell(column, row, place) {
    const kind = column.number ? 'number' : column.time ? 'time' : null;
    return el(place ? 'td' : 'th', {scope: place ? null : 'row', class: kind}, ...[column.show ? column.show(row) : column.value(row)].flat());
  }
  function order(one, other) {
    const [a, b] = [one, other].map(columns[sorted.place].value);
    // Missing values come last in either order.
    if (!given(a) || !given(b)) return given(b) - given(a);
    const way = typeof a === 'number' ? a - b : String(a).localeCompare(String(b));
    return sorted.down ? -way : way;
  }
  function sort(place) {
    sorted = {place, down: sorted && sorted.place === place ? !sorted.down : Boolean(columns[place].number || columns[place].time)};
    draw(place);
  }
  draw();
  return holder;
}

const charts = new Map();

// Marks of a time axis: days, or clock times with the day where it changes.
function moments(_, marks, __, ___, apart) {
  let before = '';
  return marks.map(seconds => {
    const [day, clock] = time(seconds * 1000).slice(5).split(' ');
    const changed = day !== before;
    before = day;
    if (apart >= 86400) return day;
    const precise = apart < 60 ? `${clock}:${two(Math.round(seconds % 60))}` : clock;
    return changed ? `${precise}\n${day}` : precise;
  });
}

// A canvas cannot use CSS variables.
function colour(name) {
  const probe = document.body.appendChild(el('span', {class: 'unseen'}));
  probe.style.color = `var(--${name})`;
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

// A chart over time in the element `holder`. series: {label, colour, value, ...uPlot's}; data: x in seconds, then each series.
// With `days`, each x is the start of a day, and the axis has no marks within days.
function chart(holder, label, series, data, {height = 220, axis, range, floor = 1, days = false} = {}) {
  const [text, line] = [colour('quiet'), colour('line')];
  const common = {stroke: text, grid: {stroke: line, width: 1}, ticks: {stroke: line, width: 1}};
  const everyDay = {
    splits: chart => data[0].filter((_, place) => (data[0].length - 1 - place) % Math.ceil(data[0].length * 48 / chart.width) === 0),
    values: (_, marks) => marks.map(seconds => time(seconds * 1000).slice(5, 10)),
  };
  const options = {
    width: Math.max(holder.clientWidth, 240),
    height,
    series: [{label: days ? 'Day' : 'Time', value: days ? '{YYYY}-{MM}-{DD}' : '{YYYY}-{MM}-{DD} {HH}:{mm}'}, ...series.map(one => ({...one, stroke: colour(one.colour), fill: one.filled ? colour(one.colour) : undefined}))],
    axes: [{...common, values: moments, ...(days && everyDay)}, {...common, size: 64, values: axis && ((_, ticks) => ticks.map(axis))}],
    scales: {x: range ? {range} : {}, y: {range: (_, low, high) => [0, Math.max(high * 1.1 || 0, floor)]}},
    tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
    cursor: {drag: {x: false, y: false}},
  };
  charts.get(holder)?.destroy();
  const canvas = new uPlot(options, data, holder);
  canvas.root.querySelector('.u-wrap').setAttribute('role', 'img');
  canvas.root.querySelector('.u-wrap').setAttribute('aria-label', `${label}. The table below has the same numbers.`);
  charts.set(holder, canvas);
}

function forgetCharts(within) {
  for (const [holder, canvas] of charts) {
    if (!within.contains(holder)) continue;
    canvas.destroy();
    charts.delete(holder);
  }
}

addEventListener('resize', () => {
  for (const [holder, canvas] of charts) canvas.setSize({width: Math.max(holder.clientWidth, 240), height: canvas.height});
});
