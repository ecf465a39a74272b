// limbeck info: what this machine has, what is in use, and why a device is not.
import { devices, info as nativeInfo, type DeviceInfo } from '../device.js';
import { LimbeckError } from '../errors.js';
import { packageVersion } from '../native.js';

/** What `limbeck info --json` prints. */
export interface InfoReport {
  limbeck: string;
  node: string;
  platform: string;
  binary: { loaded: boolean; code?: string; reason?: string };
  cpu?: { instructionSet: string; available: string[]; refused?: string; threads: number; matrixProduct: string };
  cuda?: {
    built: boolean;
    emulated: boolean;
    builtFor: string;
    driver: string | null;
    runtime: string | null;
    usable: boolean;
    matrixProduct?: string;
    code?: string;
    reason?: string;
  };
  devices: DeviceInfo[];
}

/** Gathers the report; a missing binary is part of it, not an error. */
export function gatherInfo(): InfoReport {
  const base = { limbeck: packageVersion(), node: process.versions.node, platform: `${process.platform} ${process.arch}` };
  try {
    const native = nativeInfo();
    const list = devices();
    const { cuda } = native;
    const usable = cuda.devices.some((device) => device.usable);
    return {
      ...base,
      binary: { loaded: true },
      cpu: {
        instructionSet: native.instructionSet,
        available: native.instructionSets,
        ...(native.instructionSetError ? { refused: native.instructionSetError } : {}),
        threads: native.threads,
        matrixProduct: native.matrixProduct,
      },
      cuda: {
        built: cuda.built,
        emulated: cuda.emulated,
        builtFor: cuda.architectures,
        driver: versionText(cuda.driverVersion),
        runtime: versionText(cuda.runtimeVersion),
        usable,
        ...(usable
          ? { matrixProduct: cuda.matrixProduct }
          : { code: cuda.code || 'no_device', reason: cuda.reason || cuda.devices[0]?.reason || 'no CUDA device was found' }),
      },
      devices: list,
    };
  } catch (error) {
    if (!(error instanceof LimbeckError)) throw error;
    return { ...base, binary: { loaded: false, code: error.code, reason: error.message }, devices: [] };
  }
}

/** The report as lines for people. */
export function infoText(report: InfoReport): string {
  const lines: [string, string][] = [
    ['limbeck', report.limbeck],
    ['Node', `${report.node}, ${report.platform}`],
  ];
  if (!report.binary.loaded) {
    lines.push(['binary', `not loaded (${report.binary.code})`]);
    return `${align(lines)}\n${report.binary.reason}`;
  }
  const { cpu, cuda } = report;
  lines.push(['CPU', `${cpu!.instructionSet} in use, of ${cpu!.available.join(', ')}`]);
  if (cpu!.refused) lines.push(['', cpu!.refused]);
  lines.push(['threads', String(cpu!.threads)], ['matrix products', cpu!.matrixProduct]);
  if (!cuda!.built) {
    lines.push(['CUDA', 'this binary is built without it']);
  } else {
    lines.push(['CUDA', cuda!.emulated ? 'emulated on the host' : `built for ${cuda!.builtFor}`]);
    lines.push(['  driver', cuda!.driver ?? 'none'], ['  runtime', cuda!.runtime ?? 'none']);
  }
  if (cuda!.matrixProduct) lines.push(['  matrix products', cuda!.matrixProduct]);
  if (!cuda!.usable) lines.push(['  not usable', `${cuda!.reason} (${cuda!.code})`]);
  for (const device of report.devices) {
    if (device.device === 'cpu') continue;
    const memory = device.totalBytes ? `, ${gigabytes(device.freeBytes ?? 0)} of ${gigabytes(device.totalBytes)} free` : '';
    const state = device.usable ? '' : `, not usable: ${device.reason} (${device.code})`;
    lines.push([`  ${device.device}`, `${device.name}, compute capability ${device.architecture}${memory}${state}`]);
  }
  return align(lines);
}

function align(lines: readonly [string, string][]): string {
  const width = Math.max(...lines.map(([name]) => name.length)) + 2;
  return lines.map(([name, value]) => `${name.padEnd(width)}${value}`).join('\n');
}

/** 13000 as '13.0'; 0 is none. */
function versionText(version: number): string | null {
  return version > 0 ? `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}` : null;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
