// Contrast (WCAG 2) of every text on the page against the background behind it: {texts, lowest, poor: below 4.5}.
(() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const ratio = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  let texts = 0, lowest = 21;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), owner = walker.currentNode.parentElement;
    if (!text || ['SCRIPT', 'STYLE'].includes(owner.tagName)) continue;
    const style = getComputedStyle(owner);
    const found = ratio(numbers(owner.closest('svg') ? style.fill : style.color), behind(owner));
    texts += 1;
    lowest = Math.min(lowest, found);
    if (found < 4.5) poor.push({ text: text.slice(0, 40), ratio: found });
  }
  return { texts, lowest, poor };
})()
