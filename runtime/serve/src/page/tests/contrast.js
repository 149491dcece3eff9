// Every text and every border of a control that is too close to what is behind it, by WCAG 2.2: 4.5 for text (3 for
// large text), 3 for borders and lines.
(() => {
  const numbers = (colour) => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts[3] ?? 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, alpha } = numbers(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return rgb;
      if (alpha !== 0) throw new Error(`half transparent: ${at.className}`);
    }
    return [255, 255, 255];
  };
  const found = [];
  let looked = 0;
  const check = (what, colour, background, least) => {
    looked += 1;
    const is = ratio(numbers(colour).rgb, background);
    if (is < least) found.push(`${what}: ${is.toFixed(2)}, ${colour} on ${background}`);
  };
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen, .cells, option");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !isSeen(element) || element.closest(":disabled") || element.tagName === "SCRIPT") continue;
    const style = getComputedStyle(element);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const colour = element.closest("svg") ? style.fill : style.color;
    check(`${element.tagName} ${text.slice(0, 30)}`, colour, behind(element), isLarge ? 3 : 4.5);
  }
  for (const control of document.querySelectorAll("input, select, textarea, button")) {
    const style = getComputedStyle(control);
    if (!isSeen(control) || control.disabled) continue;
    if (control.tagName !== "BUTTON") check(`${control.id} text`, style.color, behind(control), 4.5);
    const isBare = ["0px", ""].includes(style.borderTopWidth) || ["checkbox", "file"].includes(control.type);
    if (!isBare) check(`${control.id || control.textContent} border`, style.borderTopColor, behind(control.parentElement), 3);
  }
  for (const line of document.querySelectorAll(".chart .line, .chart .axis, .lane path")) {
    if (isSeen(line)) check(line.getAttribute("class") ?? "lane", getComputedStyle(line).stroke, behind(line.closest("div, li")), 3);
  }
  return { found, looked };
})()
