// KL to a mixture of two distributions in float64, what the Jensen–Shannon and skew references are made of.
import { phi } from '../reference.js';

/** ln((a·x + b·y)/x) with d = ln(y/x), a + b = 1. */
export function logMixture(d: number, a: number, b: number): number {
  if (b === 0) return 0;
  return d > 40 ? d + Math.log(b) + Math.log1p((a / b) * Math.exp(-d)) : Math.log1p(b * Math.expm1(d));
}

/** One outcome of KL(x‖a·x + b·y), with d = ln(y/x): its terms sum to the divergence where both sides sum to one mass. */
export function towardMixture(logX: number, logY: number, d: number, a: number, b: number): number {
  const x = Math.exp(logX);
  if (logX === -Infinity) return b * Math.exp(logY);
  const u = logMixture(d, a, b);
  if (u === -Infinity) return Infinity;
  return Math.abs(u) > 0.3 ? b * Math.exp(logY) + a * x - x - x * u : x * phi(u);
}
