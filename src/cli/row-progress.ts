// A line on standard error that says how far long work over rows has come, at a terminal; silence elsewhere.
import { count } from '../distill/results.js';
import type { Screen } from './progress.js';

const redrawMs = 100;

export class RowProgress {
  private readonly live: boolean;
  private readonly started: number;
  private drawn = 0;
  private isDrawn = false;
  private first = 0;

  constructor(
    private readonly screen: Screen,
    private readonly title: string,
    private readonly total: number,
    private readonly now: () => number = () => performance.now(),
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.live = screen.isTTY === true && environment['TERM'] !== 'dumb';
    this.started = now();
    this.drawn = this.started;
  }

  /** Rows that were done before. */
  startAt(rows: number): void {
    this.first = rows;
  }

  readonly show = (rows: number): void => {
    const now = this.now();
    if (!this.live || now - this.drawn < redrawMs) return;
    this.drawn = now;
    const seconds = (now - this.started) / 1000;
    const rate = (rows - this.first) / seconds;
    const left = rate > 0 ? Math.ceil((this.total - rows) / rate) : 0;
    const share = this.total === 0 ? 1 : rows / this.total;
    const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
    const text = `${this.title} ${count(rows)} of ${count(this.total)} rows  ${Math.floor(100 * share)} %  ${count(Math.round(rate))} rows/s  ${clock} left`;
    // A line that wraps could not be cleared.
    this.screen.write(`\r\u001b[2K${text.slice(0, (this.screen.columns ?? 80) - 1)}`);
    this.isDrawn = true;
  };

  clear(): void {
    if (this.isDrawn) this.screen.write('\r\u001b[2K');
    this.isDrawn = false;
  }
}
