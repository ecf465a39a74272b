// Shows a run on standard error: one live line on a terminal, plain lines elsewhere.
import type { RunEvent, Unit } from '../distill/events.js';
import { count, size } from '../distill/results.js';

/** What is written to. */
export interface Screen {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

const REDRAW_MS = 80;

export class Progress {
  private readonly live: boolean;
  private readonly color: boolean;
  private units: Unit[] = [];
  private index = 0;
  private unitStarted = 0;
  private stepAtStart = 0;
  private step = 0;
  private rowsDone = 0;
  private loss: number | undefined;
  private epochText = '';
  private drawn = 0;
  private isDrawn = false;

  constructor(
    private readonly screen: Screen,
    private readonly now: () => number = () => performance.now(),
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.live = screen.isTTY === true && environment['TERM'] !== 'dumb';
    this.color = this.live && environment['NO_COLOR'] === undefined;
  }

  readonly listen = (event: RunEvent): void => {
    switch (event.type) {
      case 'start':
        this.units = event.units;
        this.line(`${event.recipe.title ?? event.recipe.name}`, 'bold');
        this.line(
          `device ${event.device} (${event.reason}), ${count(event.trainRows)} training and ${count(event.testRows)} test rows, into ${event.folder}`,
        );
        if (event.finished > 0) this.line(`goes on after ${event.finished} of ${event.units.length} parts that are done`);
        break;
      case 'unit':
        this.index = event.index;
        this.unitStarted = this.now();
        this.stepAtStart = this.step = event.step;
        this.rowsDone = 0;
        this.loss = undefined;
        this.epochText = '';
        if (!this.live)
          this.line(
            `${this.place()} ${event.unit.title}: ${count(event.unit.steps)} steps${event.step > 0 ? `, from step ${count(event.step)}` : ''}`,
          );
        else this.draw();
        break;
      case 'step':
        this.step = event.step;
        this.rowsDone += event.rows;
        this.loss = event.loss;
        if (this.live && this.now() - this.drawn > REDRAW_MS) this.draw();
        break;
      case 'epoch':
        this.epochText = `${event.by ?? 'epoch'} ${event.epoch}/${event.epochs}  accuracy ${percent(event.accuracy)}`;
        if (!this.live)
          this.line(
            `${this.place()}   ${event.by ?? 'epoch'} ${event.epoch}/${event.epochs}  loss ${event.loss.toFixed(4)}  accuracy ${percent(event.accuracy)}  NLL ${event.nll.toFixed(4)}  ${this.rate()}  ${this.remaining()} left`,
          );
        break;
      case 'model': {
        const { title, once, seed, evaluation, agreement, seconds } = event.result;
        const kept = event.result.accepted === false ? ', not accepted: the student before it stays' : '';
        const agrees = agreement === undefined ? '' : `, agrees with the teacher on ${percent(agreement)}`;
        this.line(
          `${this.place()} ${title}${once ? '' : `, seed ${seed}`}: accuracy ${percent(evaluation.accuracy)}, NLL ${evaluation.nll.toFixed(4)}, ECE ${percent(evaluation.ece)}${agrees}${kept}  (${seconds.toFixed(1)} s)`,
        );
        break;
      }
      case 'capture': {
        const { rows, k, sample, temperature, file, bytes, seconds } = event.result;
        const what = sample === undefined ? `the ${k} best` : `${k} draws (${sample})`;
        this.line(
          `${this.place()} Targets: ${count(rows)} rows, ${what} of ${event.result.cols} at temperature ${temperature}, ${size(bytes)} in ${file}; the teacher is let go  (${seconds.toFixed(1)} s)`,
        );
        break;
      }
      case 'probe': {
        const { title, values, seconds } = event.result;
        this.line(`${this.place()} ${title}: ${Object.keys(values).length} values  (${seconds.toFixed(1)} s)`);
        break;
      }
      case 'end':
        this.clear();
    }
  };

  /** Removes the live line, so that something else can be written. */
  clear(): void {
    if (this.isDrawn) this.screen.write('\r\u001b[2K');
    this.isDrawn = false;
  }

  private line(text: string, style?: 'bold'): void {
    this.clear();
    this.screen.write(`${style && this.color ? `\u001b[1m${text}\u001b[0m` : text}\n`);
  }

  private place(): string {
    const width = String(this.units.length).length;
    return `[${String(this.index + 1).padStart(width)}/${this.units.length}]`;
  }

  private elapsed(): number {
    return (this.now() - this.unitStarted) / 1000;
  }

  private rate(): string {
    const seconds = this.elapsed();
    return seconds > 0 ? `${count(this.rowsDone / seconds)} rows/s` : '';
  }

  private remaining(): string {
    const done = this.step - this.stepAtStart;
    const left = this.units[this.index]!.steps - this.step;
    return done > 0 ? clock((this.elapsed() / done) * left) : '?';
  }

  private draw(): void {
    this.drawn = this.now();
    const unit = this.units[this.index]!;
    const share = unit.steps > 0 ? Math.min(1, this.step / unit.steps) : 0;
    const head = `${this.place()} ${unit.title} `;
    const details = [
      `${Math.floor(share * 100)} %`,
      this.rate(),
      `${this.remaining()} left`,
      this.loss === undefined ? '' : `loss ${this.loss.toFixed(4)}`,
      this.epochText,
    ].filter((text) => text !== '');
    const columns = this.screen.columns ?? 80;
    // What does not fit is left out from the right; a line that wraps could not be cleared.
    const barWidth = Math.max(8, Math.min(28, columns - head.length - 34));
    const full = Math.round(share * barWidth);
    const bar = '━'.repeat(full);
    const rest = '─'.repeat(barWidth - full);
    let tail = '';
    for (const detail of details) {
      if (head.length + barWidth + tail.length + detail.length + 3 > columns) break;
      tail += `  ${detail}`;
    }
    const shownHead = head.length + barWidth + 2 > columns ? '' : head;
    this.screen.write(`\r\u001b[2K${shownHead}${this.color ? `\u001b[36m${bar}\u001b[2m${rest}\u001b[0m` : bar + rest}${tail}`);
    this.isDrawn = true;
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}

/** Seconds as m:ss. */
function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
