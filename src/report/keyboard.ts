// Walking through the points of a plot, or the tokens of a text, with the arrow keys: one stop of the Tab key for all of them.

// The few names of the browser that are used here; the rest of the project is compiled without them.
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}
export interface Item {
  setAttribute(name: string, value: string): void;
  addEventListener(name: 'focus' | 'blur' | 'pointerenter', listener: () => void): void;
  addEventListener(name: 'keydown', listener: (event: { key: string; preventDefault(): void }) => void): void;
  getBoundingClientRect(): Box;
  getClientRects(): ArrayLike<Box>;
  focus(): void;
}

/** The middle of an item, of its first line where a token goes over several. */
function middle(item: Item): { x: number; y: number } {
  const { left, top, width, height } = item.getClientRects()[0] ?? item.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}

/** The item of another line (a lower one for 1, a higher one for −1) that is nearest to `from`. */
function across(items: readonly Item[], from: Item, way: 1 | -1): Item | undefined {
  const at = middle(from);
  let best: Item | undefined;
  let least = Infinity;
  for (const item of items) {
    const { x, y } = middle(item);
    const down = way * (y - at.y);
    // Lines of text are well apart, points of two curves may be close.
    const distance = down > 1.5 ? down + 4 * Math.abs(x - at.x) : Infinity;
    if (distance < least) [best, least] = [item, distance];
  }
  return best;
}

/** Makes items walkable; `shown` is called with the one that has the focus, or null where none has it any more. */
export function walk(items: readonly Item[], shown: (index: number | null) => void): void {
  let current = 0;
  const go = (item: Item | undefined): void => item?.focus();
  items.forEach((item, i) => {
    item.setAttribute('tabindex', i === 0 ? '0' : '-1');
    item.addEventListener('focus', () => {
      items[current]!.setAttribute('tabindex', '-1');
      item.setAttribute('tabindex', '0');
      current = i;
      shown(i);
    });
    item.addEventListener('blur', () => shown(null));
    item.addEventListener('keydown', (event) => {
      const to: Record<string, () => Item | undefined> = {
        ArrowRight: () => items[i + 1],
        ArrowLeft: () => items[i - 1],
        ArrowDown: () => across(items, item, 1),
        ArrowUp: () => across(items, item, -1),
        Home: () => items[0],
        End: () => items.at(-1),
      };
      if (!Object.hasOwn(to, event.key)) return;
      event.preventDefault();
      go(to[event.key]!());
    });
  });
}
