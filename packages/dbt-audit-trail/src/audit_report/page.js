// The sections of the report, drawn from the JSON in the page, and drawn again when a filter changes.
'use strict';

const DATA = JSON.parse($('data').textContent);
const DAY = 86400;

const named = (names, values) => Object.fromEntries(names.map((name, place) => [name, values[place]]));
const RUNS = DATA.runs.map((values, place) => {
  const run = named(DATA.runColumns, values);
  const [pipeline, release, date, airflowAddress] = [run.pipeline, run.release, run.date, run.airflow].map(name => DATA.names[name]);
  return {...run, place, pipeline: pipeline || 'by hand', release, date, airflowAddress, outcome: OUTCOMES[run.outcome], path: given(run.path) ? DATA.paths[run.path].split(' > ') : [], results: []};
});
for (const [place, queries, queued, scanned] of DATA.costs) Object.assign(RUNS[place], {queries, queued, scanned});
const NODES = DATA.nodes.map(([id, name, type, owner]) => ({id, name, type, owner, results: []}));
const RESULTS = DATA.results.map(values => {
  const result = named(DATA.resultColumns, values);
  return {...result, run: RUNS[result.run], node: NODES[result.node], outcome: OUTCOMES[result.outcome], message: DATA.texts[result.message] || '', log: DATA.texts[result.log] || ''};
});
for (const result of RESULTS) {
  result.run.results.push(result);
  result.node.results.push(result);
}

const PIPELINES_OF = new Map(NODES.map(node => [node.id, new Set(node.results.map(result => result.run.pipeline))]));

const chosen = {pipeline: '', status: '', type: '', text: '', run: null, node: null};
const hasStatus = outcome => !chosen.status || outcome === chosen.status;
const hasType = type => !chosen.type || type === chosen.type;
const hasText = (...texts) => !chosen.text || texts.some(text => text && text.toLowerCase().includes(chosen.text));
const ofPipeline = id => !chosen.pipeline || (PIPELINES_OF.get(id) || new Set()).has(chosen.pipeline);
const runsShown = () => RUNS.filter(run => (!chosen.pipeline || run.pipeline === chosen.pipeline) && hasStatus(run.outcome));
// The address of a release's commit.
const commitOf = release => {
  const commit = /^\w+-([0-9a-f]{7,40})(-dirty)?$/.exec(release || '');
  return commit && DATA.repository ? `${DATA.repository}/commit/${commit[1]}` : '';
};
for (const run of RUNS) {
  const [dag, ...id] = run.key.split('/');
  run.url = run.airflowAddress ? `${run.airflowAddress}/dags/${dag}/runs/${encodeURIComponent(id.join('/'))}` : '';
}
const nameOf = run => `${time(run.started) || run.date} ${SIGNS[run.outcome]} ${run.pipeline}`;
const median = numbers => numbers.length ? [...numbers].sort((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)] : null;

function drawSummary() {
  const runs = runsShown();
  const failed = runs.filter(run => run.outcome === 'failed').length;
  const tile = (title, ...value) => el('div', null, el('dt', null, title), el('dd', null, ...value));
  show('summary',
    tile('Runs', whole(runs.length)),
    tile('Without a failure', runs.length ? `${Math.floor(100 * (runs.length - failed) / runs.length)} %` : '–'),
    tile('Failed runs', el('span', {class: failed ? 'failed' : null}, whole(failed))),
    tile('Median duration', duration(median(runs.map(run => run.seconds).filter(given))) || '–'),
    tile('Newest run', runs.length ? badge(runs[0].outcome) : '–'));
  const counted = RUNS.filter(run => !run.results.length).length;
  $('limits').hidden = !counted;
  $('limits').textContent = `The ${whole(RESULTS.length)} newest results are shown in detail. ${whole(counted)} older runs are only counted. For a complete page, choose fewer days.`;
}

function drawDays() {
  const runs = runsShown();
  forgetCharts($('days-body'));
  if (!runs.length) return show('days-body', empty(RUNS.length ? 'No run matches the filters.' : 'No runs on these days.'));
  const today = Math.floor(DATA.madeAt / 1000 / DAY) * DAY;
  // The empty days before the first run say nothing.
  const first = RUNS.reduce((day, run) => run.date < day ? run.date : day, RUNS[0].date);
  const count = Math.min(DATA.days, Math.max(1, (today - Date.parse(first) / 1000) / DAY + 1));
  const days = Array.from({length: count}, (_, place) => ({at: today - (count - 1 - place) * DAY, passed: 0, warned: 0, failed: 0}));
  const byDate = new Map(days.map(day => [new Date(day.at * 1000).toISOString().slice(0, 10), day]));
  for (const run of runs) if (byDate.has(run.date)) byDate.get(run.date)[run.outcome] += 1;
  const holder = el('div', {class: 'chart'});
  const busy = [...byDate].filter(([, day]) => day.passed + day.warned + day.failed).reverse();
  show('days-body', holder, el('details', null, el('summary', null, 'As a table'), table('Runs by day', [
    {title: 'Day', value: ([date]) => date, time: true},
    ...['passed', 'warned', 'failed'].map(outcome => ({title: outcome, number: true, value: ([, day]) => day[outcome]})),
  ], busy)));
  // Stacked: the tallest bar is drawn first, the others over it. The legend shows the number of each.
  const bars = (outcome, place) => ({
    label: `${SIGNS[outcome]} ${outcome}`, colour: outcome, filled: true, width: 0, points: {show: false}, paths: uPlot.paths.bars({size: [0.7, 36]}),
    value: (_, __, ___, at) => given(at) ? whole(days[at][outcome]) : '–', place,
  });
  chart(holder, 'Bar chart of runs by day and outcome', ['failed', 'warned', 'passed'].map(bars), [
    days.map(day => day.at), days.map(day => day.passed + day.warned + day.failed), days.map(day => day.passed + day.warned), days.map(day => day.passed),
  ], {range: () => [days[0].at - DAY * 0.6, today + DAY * 0.6], days: true, axis: count => Number.isInteger(count) ? whole(count) : ''});
}

function drawRuns() {
  // Redshift has the queries of about seven days, and shows users only their own.
  const costs = [
    {title: 'Queries ran', number: true, value: run => run.queries, show: run => duration(run.queries)},
    {title: 'Queued', number: true, value: run => run.queued, show: run => duration(run.queued)},
    {title: 'Scanned', number: true, value: run => run.scanned, show: run => bytes(run.scanned)},
  ].filter(column => RUNS.some(run => given(column.value(run))));
  show('runs-body', table('Runs, newest first', [
    {title: 'Started', time: true, value: run => run.started, show: run => run.results.length
      ? el('button', {type: 'button', class: 'link', 'aria-label': `Timeline of ${nameOf(run)}`, onclick: () => chooseRun(run, true)}, time(run.started) || run.date)
      : time(run.started) || run.date},
    {title: 'Outcome', value: run => run.outcome, show: run => badge(run.outcome)},
    {title: 'Pipeline', value: run => run.pipeline},
    {title: 'Duration', number: true, value: run => run.seconds, show: run => duration(run.seconds)},
    ...costs,
    // A column of zeros would push the last columns off the screen.
    ...[...OUTCOMES, 'retried'].filter(name => name === 'passed' || RUNS.some(run => run[name]))
      .map(name => ({title: name, number: true, value: run => run[name], show: run => whole(run[name])})),
    {title: 'Release', value: run => run.release, show: run => link(commitOf(run.release), run.release, run.release || '')},
    {title: 'Airflow', value: run => run.url, show: run => link(run.url, ['open', el('span', {class: 'unseen'}, ` the run of ${nameOf(run)}`)])},
  ], runsShown(), {step: 15, none: RUNS.length ? undefined : 'No runs on these days.'}));
}

function options(select, entries, value, none) {
  select.replaceChildren(...entries);
  if (!entries.length) select.append(el('option', {value: ''}, none));
  select.disabled = !entries.length;
  select.value = value;
}

function drawTimeline() {
  const runs = runsShown().filter(run => run.results.length);
  if (!runs.includes(chosen.run)) chosen.run = runs[0] || null;
  options($('run'), runs.map(run => el('option', {value: run.place}, nameOf(run))), chosen.run ? chosen.run.place : '', 'no run');
  const run = chosen.run;
  if (!run) return show('timeline-body', empty(RUNS.length ? 'No run matches the filters.' : 'No runs on these days.'));
  const results = run.results.filter(result => hasType(result.node.type) && hasText(result.node.name, result.node.owner, result.message));
  const drawn = results.filter(result => given(result.start)).sort((a, b) => a.start - b.start || a.node.name.localeCompare(b.node.name));
  const idle = results.length - drawn.length;
  const all = Math.max(...run.results.map(result => (result.start || 0) + (result.length || 0)), 1);
  const path = new Set(run.path);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(share => {
    const tick = el('span', null, duration(share * all / 1000));
    tick.style.left = `${100 * share}%`;
    return tick;
  });
  const body = el('tbody');
  const more = growing(drawn, 40, result => {
    const bar = el('div', {class: `bar ${result.outcome}`});
    bar.style.left = `${Math.min(100 * result.start / all, 99.7)}%`;
    bar.style.width = `${100 * (result.length || 0) / all}%`;
    const critical = path.has(result.node.name);
    return el('tr', {title: `${result.node.id}: from ${duration(result.start / 1000)} on, ${duration((result.length || 0) / 1000)}`},
      el('th', {scope: 'row', class: critical ? 'critical' : null}, critical ? '◆ ' : '', wrapping(result.node.name), result.tries > 1 ? ` (try ${result.tries})` : ''),
      el('td', null, badge(result.outcome)),
      el('td', null, el('div', {class: 'track'}, bar)),
      el('td', {class: 'number'}, duration((result.length || 0) / 1000)));
  }, body);
  const caption = `${run.key}: ${whole(drawn.length)} nodes by start${idle ? `, without ${whole(idle)} that never started` : ''}. `
    + (path.size ? `◆ critical path: ${run.path.length} nodes, ${duration(run.pathSeconds)}. ` : '')
    + (given(run.queries) ? `Queries ran ${duration(run.queries)}, queued ${duration(run.queued)}${given(run.scanned) ? `, scanned ${bytes(run.scanned)}` : ''}.` : '');
  const links = [link(run.url, 'Open the run in Airflow'), run.release && (run.url ? ' · release ' : 'Release '), link(commitOf(run.release), run.release, run.release)];
  show('timeline-body', el('p', null, links), drawn.length ? el('div', null, el('table', {class: 'gantt'},
    el('caption', null, caption),
    el('colgroup', null, ['name', 'outcome', 'span', 'seconds'].map(name => el('col', {class: name}))),
    el('thead', null, el('tr', null, el('th', {scope: 'col'}, 'Node'), el('th', {scope: 'col'}, el('span', {class: 'word'}, 'Outcome')),
      el('th', {scope: 'col'}, el('span', {class: 'unseen'}, 'Span'), el('div', {class: 'axis', 'aria-hidden': 'true'}, ticks)), el('th', {scope: 'col', class: 'number'}, 'Took'))),
    body), more) : empty('No node of this run matches the filters.'));
}

function drawFailures() {
  const found = RESULTS.filter(({outcome, node, run, message}) => (outcome === 'failed' || outcome === 'warned') && hasStatus(outcome) && hasType(node.type)
    && (!chosen.pipeline || run.pipeline === chosen.pipeline) && hasText(node.name, node.owner, message));
  if (!found.length) return show('failures-body', empty('No failure or warning matches the filters.'));
  const list = el('div');
  const more = growing(found, 10, ({outcome, node, run, message, log, failures, tries}) => el('article', null,
    el('h3', null, badge(outcome), ' ', wrapping(node.name)),
    el('p', {class: 'quiet'}, [node.type, time(run.started), run.pipeline, node.owner && `owner ${node.owner}`, given(failures) && `${whole(failures)} failing rows`,
      tries > 1 && `try ${tries}`].filter(Boolean).join(' · '), log ? [' · ', link(log, 'log')] : null),
    message ? el('pre', {tabindex: 0, 'aria-label': `Message of ${node.name}`}, message) : null), list);
  show('failures-body', list, more);
}

function drawTrends() {
  const ran = NODES.filter(node => ofPipeline(node.id) && hasType(node.type) && hasText(node.name, node.owner) && node.results.some(result => result.outcome !== 'skipped'));
  if (!ran.includes(chosen.node)) {
    const slowest = DATA.statistics.find(row => row.resource_type === 'model' && ran.some(node => node.id === row.unique_id));
    chosen.node = ran.find(node => slowest && node.id === slowest.unique_id) || ran[0] || null;
  }
  const types = [...new Set(ran.map(node => node.type))].sort();
  options($('node'), types.map(type => el('optgroup', {label: type}, ran.filter(node => node.type === type)
    .sort((a, b) => a.name.localeCompare(b.name)).map(node => el('option', {value: node.id}, node.name)))), chosen.node ? chosen.node.id : '', 'no node');
  forgetCharts($('trends-body'));
  if (!chosen.node) return show('trends-body', empty('No node matches the filters.'));
  const results = chosen.node.results.filter(({outcome, run}) => outcome !== 'skipped' && given(run.started) && (!chosen.pipeline || run.pipeline === chosen.pipeline));
  if (!results.length) return show('trends-body', empty('The node did not run on these days.'));
  const inTime = [...results].sort((a, b) => a.run.started - b.run.started);
  const column = value => inTime.map(result => { const found = value(result); return given(found) ? found : null; });
  const seconds = column(({run}) => run.started / 1000);
  const well = value => column(result => result.outcome === 'failed' ? null : value(result));
  const [spans, counts] = [el('div', {class: 'chart'}, el('h3', null, 'Duration')), el('div', {class: 'chart'}, el('h3', null, 'Rows'))];
  const rowCounts = well(result => result.rows);
  const hasRows = rowCounts.some(given);
  show('trends-body', el('div', {class: 'charts'}, spans, hasRows && counts),
    hasRows ? null : el('p', {class: 'quiet'}, 'Redshift reports no row count for this node.'),
    el('details', null, el('summary', null, 'As a table'), table(`Results of ${chosen.node.name}`, [
      {title: 'Run', value: ({run}) => run.started, show: ({run}) => time(run.started), time: true},
      {title: 'Outcome', value: ({outcome}) => outcome, show: ({outcome}) => badge(outcome)},
      {title: 'Duration', number: true, value: result => result.seconds, show: result => duration(result.seconds)},
      {title: 'Usual', number: true, value: result => result.usual, show: result => duration(result.usual)},
      {title: 'Rows', number: true, value: result => result.rows, show: result => whole(result.rows)},
    ], results)));
  const around = (_, low, high) => low === high ? [low - DAY / 24, high + DAY / 24] : [low - (high - low) * 0.03, high + (high - low) * 0.03];
  const spoken = number => given(number) ? duration(number) : '–';
  const points = {points: {size: 6}, width: 2};
  chart(spans, `Line chart of the duration of ${chosen.node.name}`, [
    {label: 'took', colour: 'accent', value: (_, number) => spoken(number), ...points},
    {label: 'usual', colour: 'skipped', dash: [4, 4], points: {show: false}, value: (_, number) => spoken(number)},
    {label: '✗ failed after', colour: 'failed', paths: () => null, points: {show: true, size: 9}, value: (_, number) => spoken(number)},
  ], [seconds, well(result => result.seconds), well(result => result.usual), column(result => result.outcome === 'failed' ? result.seconds : null)],
  {range: around, axis: duration, floor: 0.01});
  if (hasRows) chart(counts, `Line chart of the rows of ${chosen.node.name}`, [{label: 'rows', colour: 'accent', value: (_, number) => whole(number) || '–', ...points}],
    [seconds, rowCounts], {range: around, axis: count => Number.isInteger(count) ? count.toLocaleString('en-US', {notation: 'compact'}) : ''});
}

function drawNodes() {
  const rows = DATA.statistics.filter(row => ofPipeline(row.unique_id) && hasType(row.resource_type) && hasText(row.name, row.owner));
  const span = (title, name) => ({title, number: true, value: row => row[name], show: row => duration(row[name])});
  const known = new Map(NODES.map(node => [node.id, node]));
  show('nodes-body', table('Nodes by total time, over all stored runs', [
    {title: 'Node', value: row => row.name, show: row => known.has(row.unique_id)
      ? el('button', {type: 'button', class: 'link', 'aria-label': `Trend of ${row.name}`, onclick: () => chooseNode(known.get(row.unique_id))}, wrapping(row.name)) : wrapping(row.name)},
    {title: 'Type', value: row => row.resource_type},
    span('All', 'total_execution_time'), span('Median', 'median_execution_time'), span('95th percentile', 'p95_execution_time'), span('Longest', 'longest_execution_time'),
    {title: 'Last against usual', number: true, value: row => row.last_times_usual, show: row => given(row.last_times_usual) ? `${row.last_times_usual.toFixed(2)} ×` : ''},
    {title: 'Runs', number: true, value: row => row.runs, show: row => whole(row.runs)},
    {title: 'Failed', number: true, value: row => row.failed_runs, show: row => el('span', {class: row.failed_runs ? 'failed' : null}, whole(row.failed_runs))},
    {title: 'Rows', number: true, value: row => row.last_rows_affected, show: row => whole(row.last_rows_affected)},
    {title: 'Owner', value: row => row.owner, show: row => row.owner || ''},
  ], rows, {step: 15}));
}

function drawTests() {
  const rows = DATA.tests.filter(row => ofPipeline(row.unique_id) && hasType(row.unique_id.split('.')[0]) && hasText(row.name) && hasStatus(row.last_outcome));
  const looks = {healthy: 'passed', flaky: 'warned', 'always warning': 'warned', 'always failing': 'failed'};
  const rank = row => ['always failing', 'failed', 'flaky', 'always warning', 'warned'].indexOf(row.health) + 1 || 9;
  show('tests-body', table('Tests that need attention first', [
    {title: 'Test', value: row => row.name, show: row => wrapping(row.name)},
    {title: 'Health', value: rank, show: row => badge(looks[row.health] || row.health, row.health)},
    {title: 'Last', value: row => row.last_outcome, show: row => badge(row.last_outcome)},
    {title: 'Failing rows', number: true, value: row => row.last_failures, show: row => whole(row.last_failures)},
    ...['runs', 'passed', 'warned', 'failed'].map(name => ({title: name, number: true, value: row => row[name === 'runs' ? name : `${name}_runs`]})),
    {title: 'Outcome changes', number: true, value: row => row.changes},
    {title: 'Last passed', time: true, value: row => row.last_passed_at, show: row => time(row.last_passed_at)},
  ], rows.sort((a, b) => rank(a) - rank(b)), {step: 15}));
}

function drawMarts() {
  const rows = DATA.marts.filter(row => ofPipeline(row.unique_id) && hasType('model') && hasText(row.name, row.owner) && hasStatus(row.last_outcome));
  show('marts-body', table('Marts, the oldest first', [
    {title: 'Mart', value: row => row.name, show: row => wrapping(row.name)},
    {title: 'Last build', value: row => row.last_outcome, show: row => badge(row.last_outcome)},
    {title: 'Built', time: true, value: row => row.built_at, show: row => time(row.built_at) || 'never'},
    {title: 'Age', number: true, value: row => row.hours_since_built, show: row => age(row.hours_since_built)},
    {title: 'Oldest source loaded', time: true, value: row => row.oldest_source_loaded_at, show: row => time(row.oldest_source_loaded_at) || 'not measured'},
    {title: 'Age of source', number: true, value: row => row.hours_since_source_loaded, show: row => age(row.hours_since_source_loaded)},
    {title: 'Owner', value: row => row.owner, show: row => row.owner || ''},
  ], rows));
}

function drawSources() {
  const rows = DATA.sources.filter(row => ofPipeline(row.unique_id) && hasType('source') && hasText(row.unique_id, row.owner, row.message) && hasStatus(row.outcome));
  const ageAt = (row, at) => given(row.source_max_loaded_at) && given(at) ? (at - row.source_max_loaded_at) / 3600000 : null;
  show('sources-body', table('Sources at their last measurement, the oldest first', [
    {title: 'Source', value: row => row.unique_id, show: row => wrapping(row.unique_id.split('.').slice(2).join('.'))},
    {title: 'Freshness', value: row => row.outcome, show: row => badge(row.outcome, {pass: 'fresh', warn: 'late', error: 'stale'}[row.status])},
    {title: 'Newest row loaded', time: true, value: row => row.source_max_loaded_at, show: row => time(row.source_max_loaded_at) || 'unknown'},
    {title: 'Age when measured', number: true, value: row => ageAt(row, row.completed_at), show: row => age(ageAt(row, row.completed_at))},
    {title: 'Measured', time: true, value: row => row.completed_at, show: row => time(row.completed_at)},
    {title: 'Owner', value: row => row.owner, show: row => row.owner || ''},
  ], rows, {none: DATA.sources.length ? undefined : 'No source was measured. Set source_freshness: measure in pipelines.yml, or run dbt source freshness.'}));
}

function chooseRun(run, go) {
  chosen.run = run;
  drawTimeline();
  if (go) goTo('timeline');
}

function chooseNode(node) {
  chosen.node = node;
  drawTrends();
  goTo('trends');
}

function goTo(section) {
  $(section).scrollIntoView();
  $(`${section}-h`).focus({preventScroll: true});
}

function drawAll() {
  for (const draw of [drawSummary, drawDays, drawRuns, drawTimeline, drawFailures, drawTrends, drawNodes, drawTests, drawMarts, drawSources]) draw();
}

function filter() {
  Object.assign(chosen, {pipeline: $('pipeline').value, status: $('status').value, type: $('type').value, text: $('text').value.trim().toLowerCase()});
  drawAll();
  say(`${runsShown().length} runs shown`);
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  showTheme(dark);
  drawDays();
  drawTrends();
}

function showTheme(dark) {
  $('theme').textContent = dark ? 'Light mode' : 'Dark mode';
}

const every = words => el('option', {value: ''}, words);
$('pipeline').append(every('all'), ...[...new Set(RUNS.map(run => run.pipeline))].sort().map(name => el('option', {value: name}, name)));
$('status').append(every('all'), ...OUTCOMES.map(outcome => el('option', {value: outcome}, outcome)));
$('type').append(every('all'), ...[...new Set(NODES.map(node => node.type))].filter(Boolean).sort().map(type => el('option', {value: type}, type.replace('_', ' '))));
$('filters').addEventListener('submit', event => event.preventDefault());
$('filters').addEventListener('reset', () => setTimeout(filter));
for (const id of ['pipeline', 'status', 'type']) $(id).addEventListener('change', filter);
let typing;
$('text').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(filter, 150); });
$('run').addEventListener('change', event => chooseRun(RUNS[event.target.value]));
$('node').addEventListener('change', event => { chosen.node = NODES.find(node => node.id === event.target.value); drawTrends(); });
const system = matchMedia('(prefers-color-scheme: dark)');
showTheme(system.matches);
const isDark = () => (document.documentElement.dataset.theme || (system.matches ? 'dark' : 'light')) === 'dark';
$('theme').addEventListener('click', () => setTheme(!isDark()));
system.addEventListener('change', () => { if (!document.documentElement.dataset.theme) { showTheme(system.matches); drawAll(); } });
addEventListener('keydown', event => {
  if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { event.preventDefault(); $('text').focus(); }
});
drawAll();
// For benchmarks: milliseconds from the request of the page until it is usable.
document.documentElement.dataset.ready = Math.round(performance.now());
