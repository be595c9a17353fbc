// Corrects the theme for people who use a keyboard or a screen reader. The accessibility test checks the result.
const repair = () => {
  const setOnce = (element, name, value) => element.getAttribute(name) === value || element.setAttribute(name, value);
  // The theme hides these inputs, but the Tab key still reaches them.
  document.querySelectorAll('input[aria-hidden=true]').forEach(element => setOnce(element, 'tabindex', '-1'));
  // A label cannot have an aria-label. A title works, and Enter opens the menu (see below).
  document.querySelectorAll('label[for=__drawer][aria-label]').forEach(element => {
    if (element.matches('.md-header__button')) Object.assign(element, {title: element.ariaLabel, tabIndex: 0});
    element.removeAttribute('aria-label');
  });
  // A keyboard user can only scroll an element that has the focus.
  document.querySelectorAll('pre > code, .md-typeset__scrollwrap').forEach(element => setOnce(element, 'tabindex', '0'));
  // Landmarks need different names.
  document.querySelectorAll('.md-code__nav').forEach((element, place) => setOnce(element, 'aria-label', `Code ${place + 1}`));
};
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && event.target.matches('label[for=__drawer]')) event.target.click();
});
new MutationObserver(repair).observe(document.documentElement, {childList: true, subtree: true});
repair();
