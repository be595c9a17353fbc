// What the theme leaves out for those who use a keyboard or a screen reader; tests/e2e/test_accessibility.py checks it.
const repair = () => {
  const setOnce = (element, name, value) => element.getAttribute(name) === value || element.setAttribute(name, value);
  // Hidden, yet reached by the Tab key.
  document.querySelectorAll('input[aria-hidden=true]').forEach(element => setOnce(element, 'tabindex', '-1'));
  // A label may not carry this name; a title it may, and it opens the menu by Enter.
  document.querySelectorAll('label[for=__drawer][aria-label]').forEach(element => {
    if (element.matches('.md-header__button')) Object.assign(element, {title: element.ariaLabel, tabIndex: 0});
    element.removeAttribute('aria-label');
  });
  // What scrolls sideways must be reachable, or what is off the screen is not.
  document.querySelectorAll('pre > code, .md-typeset__scrollwrap').forEach(element => setOnce(element, 'tabindex', '0'));
  // Landmarks need names of their own.
  document.querySelectorAll('.md-code__nav').forEach((element, place) => setOnce(element, 'aria-label', `Code ${place + 1}`));
};
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && event.target.matches('label[for=__drawer]')) event.target.click();
});
new MutationObserver(repair).observe(document.documentElement, {childList: true, subtree: true});
repair();
