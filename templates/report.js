'use strict';
(() => {
  const root = document.documentElement;
  root.classList.add('js');

  // A page opened from disk may be forbidden to store anything: then the choice lasts as long as the page.
  const stored = { get() { try { return localStorage.getItem('warden-theme'); } catch { return null; } },
                   set(theme) { try { localStorage.setItem('warden-theme', theme); } catch { /* see above */ } } };
  const themes = ['auto', 'light', 'dark'];
  let theme = themes.includes(stored.get()) ? stored.get() : 'auto';
  const applyTheme = () => { if (theme === 'auto') delete root.dataset.theme; else root.dataset.theme = theme; };
  applyTheme();

  document.addEventListener('DOMContentLoaded', () => {
    const byId = id => document.getElementById(id);
    const all = (selector, within = document) => [...within.querySelectorAll(selector)];
    const search = byId('search'), dialog = byId('keys');
    const findings = all('.finding'), items = all('.item');
    const counts = all('.count'), areas = all('.rail [data-area]');
    const chosen = { outcomes: new Set(), area: '', query: '' };
    const outcomes = new Set(counts.map(count => count.dataset.outcome));

    // ---- the address: #disk-space?outcome=fail,warn&area=disk&q=raft
    const target = () => location.hash.slice(1).split('?')[0];
    function readAddress() {
      const parameters = new URLSearchParams(location.hash.split('?')[1] || '');
      chosen.outcomes = new Set((parameters.get('outcome') || '').split(',').filter(name => outcomes.has(name)));
      const area = parameters.get('area') || '';
      chosen.area = areas.some(link => link.dataset.area === area) ? area : '';
      chosen.query = parameters.get('q') || '';
      search.value = chosen.query;
    }
    function address(id) {
      const parameters = new URLSearchParams();
      if (chosen.outcomes.size) parameters.set('outcome', [...chosen.outcomes].join(','));
      if (chosen.area) parameters.set('area', chosen.area);
      if (chosen.query) parameters.set('q', chosen.query);
      const text = parameters.toString().replaceAll('%2C', ',');
      return '#' + id + (text ? '?' + text : '');
    }
    function writeAddress(id = '') {
      if (address(id) === (location.hash || '#')) return;
      try { history.replaceState(null, '', address(id)); } catch { location.hash = address(id); }
    }

    // ---- search: the text of every finding, once lowered and kept
    const texts = new Map();
    function textOf(item) {
      if (texts.has(item)) return texts.get(item);
      const walker = document.createTreeWalker(item, NodeFilter.SHOW_TEXT, node =>
        node.parentElement.closest('button, title, .levels') || !node.data.trim() ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
      const nodes = [];
      while (walker.nextNode()) nodes.push([walker.currentNode, walker.currentNode.data.toLowerCase()]);
      texts.set(item, nodes);
      return nodes;
    }
    const highlights = window.Highlight && CSS.highlights;
    // Beyond this nobody steps from match to match, and painting them is slow.
    const painted = 2000;
    let matches = [], current = -1, openBefore = null;

    function findMatches(query) {
      const found = new Map();
      let total = 0;
      matches = [];
      for (const item of items) {
        if (item.classList.contains('finding') && !passes(item)) continue;
        let count = 0;
        for (const [node, text] of textOf(item)) {
          for (let at = text.indexOf(query); at >= 0; at = text.indexOf(query, at + query.length)) {
            count += 1;
            if (matches.length < painted && at + query.length <= node.length) matches.push([node, at, at + query.length]);
          }
        }
        if (count) found.set(item, count);
        total += count;
      }
      return [found, total];
    }
    const rangeOf = ([node, from, to]) => { const range = new Range(); range.setStart(node, from); range.setEnd(node, to); return range; };
    function reveal(node) {
      for (let details = node.parentElement.closest('details'); details; details = details.parentElement.closest('details')) details.open = true;
      const everyLevel = node.parentElement.closest('.log')?.querySelector('[value=all]');
      if (everyLevel && !node.parentElement.getClientRects().length) everyLevel.checked = true;
    }
    function step(by) {
      if (!matches.length) return;
      current = (current + by + matches.length) % matches.length;
      const [node] = matches[current];
      reveal(node);
      if (highlights) CSS.highlights.set('current', new Highlight(rangeOf(matches[current])));
      (node.parentElement.closest('td, p, summary, text') || node.parentElement).scrollIntoView({ block: 'center', behavior: 'instant' });
      sayMatches();
    }
    let said = '';
    function sayMatches() {
      byId('matches').textContent = current >= 0 && matches.length ? `${current + 1} of ${said}` : said;
    }

    // ---- what is shown
    const passes = finding => (!chosen.outcomes.size || chosen.outcomes.has(finding.dataset.outcome))
      && (!chosen.area || chosen.area === finding.dataset.area);

    function show() {
      const query = chosen.query.trim().toLowerCase();
      const filtered = chosen.outcomes.size > 0 || chosen.area !== '';
      let found = null;
      root.classList.toggle('searching', query !== '');
      root.classList.toggle('narrowed', filtered || query !== '');
      if (highlights) { CSS.highlights.delete('match'); CSS.highlights.delete('current'); }
      matches = []; current = -1; said = '';
      if (query) {
        let total;
        openBefore ??= new Map(all('.item details').map(details => [details, details.open]));
        [found, total] = findMatches(query);
        if (highlights) CSS.highlights.set('match', new Highlight(...matches.map(rangeOf)));
        said = total === 0 ? 'no match' : `${total} ${total === 1 ? 'match' : 'matches'}`;
      } else if (openBefore) {
        for (const [details, open] of openBefore) details.open = open;
        openBefore = null;
      }
      let visible = 0;
      for (const item of items) {
        const isFinding = item.classList.contains('finding');
        item.hidden = (isFinding && !passes(item)) || (found !== null && !found.has(item));
        if (isFinding && !item.hidden) visible += 1;
      }
      if (query) {
        // The findings open; what is folded within them opens only for a match.
        for (const item of found.keys()) item.querySelector('details')?.setAttribute('open', '');
        for (const [node] of matches) if (node.parentElement.closest('.asked, .earlier')) reveal(node);
      }
      for (const count of counts) count.setAttribute('aria-pressed', chosen.outcomes.has(count.dataset.outcome));
      for (const link of areas) link.setAttribute('aria-current', link.dataset.area === chosen.area);
      byId('shown').textContent = filtered || query ? `${visible} of ${findings.length} shown` : 'worst first';
      byId('clear').hidden = !filtered && !query;
      byId('none').hidden = visible > 0;
      byId('previous').hidden = byId('next').hidden = matches.length < 2;
      sayMatches();
      tellExpand();
    }
    function change(what) { what(); show(); writeAddress(); }
    function clear() { change(() => { chosen.outcomes.clear(); chosen.area = chosen.query = search.value = ''; }); }

    // ---- to a finding and back
    function arrive() {
      const id = target(), finding = id && byId(id);
      if (!finding) return;
      if (finding.hidden) clear();
      if (finding.classList.contains('finding')) finding.querySelector('details').open = true;
      finding.scrollIntoView({ block: 'start', behavior: 'instant' });
      writeAddress(id);
    }
    const shown = () => findings.filter(finding => !finding.hidden);
    function travel(by) {
      const list = shown(), here = document.activeElement?.closest?.('.finding');
      const at = here ? list.indexOf(here) + by : by > 0 ? 0 : list.length - 1;
      const next = list[Math.max(0, Math.min(list.length - 1, at))];
      if (!next) return;
      next.querySelector('summary').focus({ preventScroll: true });
      next.scrollIntoView({ block: 'nearest', behavior: 'instant' });
      if (next.getBoundingClientRect().height > innerHeight / 2) next.scrollIntoView({ block: 'start', behavior: 'instant' });
    }
    const folds = () => shown().map(finding => finding.querySelector('details'));
    function tellExpand() { byId('expand').textContent = folds().every(details => details.open) ? 'Close all' : 'Expand all'; }
    function expand() {
      const open = !folds().every(details => details.open);
      for (const details of folds()) details.open = open;
      tellExpand();
    }

    // ---- tables sort by a click on a heading: up, down, as they came
    for (const table of all('table.sortable')) {
      const rows = [...table.tBodies[0].rows];
      if (rows.length < 2) continue;
      all('th', table).forEach((heading, column) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.append(...heading.childNodes);
        heading.append(button);
        button.addEventListener('click', () => {
          const order = { null: 'ascending', ascending: 'descending', descending: null }[heading.getAttribute('aria-sort')];
          for (const other of all('th', table)) other.removeAttribute('aria-sort');
          if (order) heading.setAttribute('aria-sort', order);
          table.tBodies[0].append(...(order ? sorted(rows, column, order === 'ascending' ? 1 : -1) : rows));
        });
      });
    }
    // What is empty stays last in either direction.
    function sorted(rows, column, direction) {
      const key = row => {
        const cell = row.cells[column], number = parseFloat(cell.dataset.sort);
        return Number.isNaN(number) ? cell.textContent.trim() : number;
      };
      const empty = value => value === '–' || value === '';
      const keyed = rows.map(row => [key(row), row]);
      keyed.sort(([one], [other]) => empty(one) - empty(other)
        || direction * (typeof one === 'number' && typeof other === 'number'
          ? one - other : String(one).localeCompare(String(other), 'en', { numeric: true })));
      return keyed.map(([, row]) => row);
    }

    // ---- copy
    async function copy(button) {
      const code = button.parentElement.querySelector('code');
      let done = false;
      try { await navigator.clipboard.writeText(code.textContent); done = true; } catch {
        const selection = getSelection();
        selection.selectAllChildren(code);
        try { done = document.execCommand('copy'); } catch { /* it stays selected, for the person to copy */ }
      }
      button.textContent = done ? 'Copied' : 'Selected';
      button.classList.toggle('done', done);
      setTimeout(() => { button.textContent = 'Copy'; button.classList.remove('done'); }, 1600);
    }

    // ---- listening
    let waiting;
    search.addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change(() => { chosen.query = search.value; }), 120);
    });
    search.addEventListener('keydown', event => {
      if (event.key !== 'Enter') return;
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    });
    byId('next').addEventListener('click', () => step(1));
    byId('previous').addEventListener('click', () => step(-1));
    byId('clear').addEventListener('click', clear);
    byId('expand').addEventListener('click', expand);
    byId('help').addEventListener('click', () => dialog.showModal());
    byId('theme').addEventListener('click', nextTheme);
    function tellTheme() { byId('theme').textContent = theme[0].toUpperCase() + theme.slice(1); }
    function nextTheme() {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      stored.set(theme);
      applyTheme();
      tellTheme();
    }
    for (const count of counts) {
      count.disabled = false;
      count.addEventListener('click', () => change(() => {
        const outcome = count.dataset.outcome;
        if (!chosen.outcomes.delete(outcome)) chosen.outcomes.add(outcome);
      }));
    }
    for (const link of areas) link.addEventListener('click', event => {
      event.preventDefault();
      change(() => { chosen.area = chosen.area === link.dataset.area ? '' : link.dataset.area; });
      if (byId('findings').getBoundingClientRect().top < 0) byId('findings').scrollIntoView({ behavior: 'instant' });
    });
    document.addEventListener('click', event => {
      const button = event.target.closest('.copy');
      if (button) copy(button);
      // The same address again moves nowhere by itself.
      const link = event.target.closest('a[href^="#"]');
      if (link && !link.dataset.area && link.getAttribute('href') === '#' + target()) setTimeout(arrive);
    });
    document.addEventListener('change', event => {
      if (event.target.matches('.choices input')) {
        const earlier = event.target.closest('.log').querySelector('.earlier');
        if (earlier) earlier.open = event.target.value !== 'all';
      }
    });
    // A log begins at its end, where the newest lines are.
    const toTheEnd = (lines, watcher) => { lines.scrollTop = lines.scrollHeight; watcher.unobserve(lines); };
    const logs = new ResizeObserver((entries, watcher) => {
      for (const { target, contentRect } of entries) if (contentRect.height > 0) toTheEnd(target, watcher);
    });
    for (const lines of all('.lines')) logs.observe(lines);
    document.addEventListener('toggle', tellExpand, true);
    addEventListener('hashchange', () => {
      if (location.hash.includes('?') || !target()) { readAddress(); show(); }
      arrive();
    });
    document.addEventListener('keydown', event => {
      if (dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'Escape') {
        if (search.value || chosen.query) change(() => { clearTimeout(waiting); chosen.query = search.value = ''; });
        else if (document.activeElement === search) search.blur();
        else clear();
        return;
      }
      if (event.target.closest('input:not([type=radio]), textarea, select')) return;
      const onFinding = event.target.matches('.finding > details > summary');
      const act = { '/': () => { search.focus(); search.select(); }, 'j': () => travel(1), 'k': () => travel(-1),
        'e': expand, 't': nextTheme, '?': () => dialog.showModal(),
        'ArrowDown': onFinding && (() => travel(1)), 'ArrowUp': onFinding && (() => travel(-1)) }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    let closed = [];
    addEventListener('beforeprint', () => {
      closed = all('.finding > details:not([open])');
      for (const details of closed) details.open = true;
    });
    addEventListener('afterprint', () => { for (const details of closed) details.open = false; });

    readAddress();
    show();
    tellTheme();
    arrive();
  });
})();
