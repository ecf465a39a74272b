// Devices: which there are, which one new tensors go to, threads, and what is live in memory.
import { checkWhole } from './check.js';
import { kindError, LimbeckError, valueError, wording } from './errors.js';
import { attempt, native, packageVersion, type NativeInfo } from './native.js';
import { pooledCpuBytes, trimCpu, usageOf, type Ordinal } from './storage.js';

/** Where a tensor lives. `'cuda'` is the first CUDA device, the same as `'cuda:0'`. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}`;

/** One device, whether it can be used, and why not. */
export interface DeviceInfo {
  device: Device;
  name: string;
  usable: boolean;
  /** Stable code of the reason where it cannot be used, as in {@link LimbeckError}. */
  code?: string;
  reason?: string;
  /** CPU: the instruction set in use. CUDA: the compute capability, such as '9.0'. */
  architecture: string;
  totalBytes?: number;
  freeBytes?: number;
  multiprocessors?: number;
  /** True for the stand-in that runs the CUDA kernels on the host. */
  emulated?: boolean;
}

/** What {@link setDevice} picked and why. */
export interface DeviceChoice {
  device: Device;
  reason: string;
}

/** What is live on one device. */
export interface MemoryInfo {
  /** Tensors that were neither disposed nor collected. */
  tensors: number;
  /** Bytes they hold; views count once. */
  bytes: number;
  /** Most bytes held at once. */
  peakBytes: number;
  /** Bytes kept for reuse. */
  pooledBytes: number;
}

let defaultOrdinal: Ordinal = -1;

export function deviceName(ordinal: Ordinal): Device {
  return ordinal < 0 ? 'cpu' : ordinal === 0 ? 'cuda' : `cuda:${ordinal}`;
}

/** The ordinal behind a name, or the default one; a CUDA device must be usable. */
export function parseDevice(action: string, device: unknown): Ordinal {
  // The first use of anything says that there is no binary, not the first kernel after an hour of preparation.
  native();
  if (device === undefined) return defaultOrdinal;
  if (device === 'cpu') return -1;
  if (typeof device !== 'string') throw kindError(action, "device must be 'cpu', 'cuda' or 'cuda:<number>'", device);
  const match = /^cuda(?::(\d{1,3}))?$/.exec(device);
  if (match === null) throw valueError(action, "device must be 'cpu', 'cuda' or 'cuda:<number>'", device);
  const ordinal = Number(match[1] ?? 0);
  requireCuda(action, ordinal);
  return ordinal;
}

const usable = new Set<Ordinal>();

function requireCuda(action: string, ordinal: Ordinal): void {
  if (usable.has(ordinal)) return;
  const { cuda } = native().info();
  const found = cuda.devices[ordinal];
  if (found?.usable === true) {
    usable.add(ordinal);
    return;
  }
  if (found !== undefined) throw new LimbeckError(found.code, wording(action, `${deviceName(ordinal)} must be usable`, found.reason));
  if (cuda.devices.length > 0) {
    throw new LimbeckError(
      'no_device',
      wording(
        action,
        `${deviceName(ordinal)} must be there`,
        `there ${cuda.devices.length === 1 ? 'is one CUDA device' : `are ${cuda.devices.length} CUDA devices`}`,
      ),
    );
  }
  throw new LimbeckError(
    cuda.code || 'no_device',
    wording(action, `${deviceName(ordinal)} must be usable`, cuda.reason || 'no CUDA device was found'),
  );
}

/** Every device this build knows of: the CPU first, then the CUDA devices, usable or not. */
export function devices(): DeviceInfo[] {
  const { cuda, instructionSet, threads } = native().info();
  const list: DeviceInfo[] = [
    { device: 'cpu', name: `CPU, ${threads} thread${threads === 1 ? '' : 's'}`, usable: true, architecture: instructionSet },
  ];
  cuda.devices.forEach((found, ordinal) => {
    list.push({
      device: deviceName(ordinal),
      name: found.name,
      usable: found.usable,
      ...(found.usable ? {} : { code: found.code, reason: found.reason }),
      architecture: `${found.major}.${found.minor}`,
      totalBytes: found.totalBytes,
      freeBytes: found.freeBytes,
      multiprocessors: found.multiprocessors,
      emulated: cuda.emulated,
    });
  });
  return list;
}

/**
 * Chooses the device of new tensors that name none. `'auto'` takes the first usable CUDA device or else the CPU, and says
 * why; a device by name that cannot be used throws.
 *
 * @throws LimbeckError with the reason's `code` (`no_driver`, `driver_too_old`, `no_device`, `unsupported_architecture`, ...)
 */
export function setDevice(device: Device | 'auto'): DeviceChoice {
  const action = 'set the device';
  if (device === undefined) throw kindError(action, "device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>'", device);
  if (device !== 'auto') {
    const ordinal = parseDevice(action, device);
    defaultOrdinal = ordinal;
    return { device: deviceName(ordinal), reason: 'it was asked for' };
  }
  const { cuda } = native().info();
  const ordinal = cuda.devices.findIndex((found) => found.usable);
  defaultOrdinal = ordinal;
  if (ordinal >= 0) return { device: deviceName(ordinal), reason: `${cuda.devices[ordinal]!.name} is usable` };
  const refused = cuda.devices.find((found) => !found.usable);
  return { device: 'cpu', reason: `CUDA cannot be used: ${refused?.reason || cuda.reason || 'no device was found'}` };
}

/** Sets how many CPU threads kernels use; the default comes from LIMBECK_THREADS or the cores this process may use. */
export function setThreads(threads: number): void {
  const action = 'set the threads';
  checkWhole(action, 'threads', threads, 1, 256);
  attempt(action, (addon) => addon.setThreads(threads));
}

/** Live tensors and bytes per device, `memory().cpu` and, where there are CUDA devices, `memory().cuda`, `memory()['cuda:1']`, ... */
export function memory(): Record<string, MemoryInfo> & { cpu: MemoryInfo } {
  const report = { cpu: { ...usageOf(-1), pooledBytes: pooledCpuBytes() } } as Record<string, MemoryInfo> & { cpu: MemoryInfo };
  const addon = native();
  addon.info().cuda.devices.forEach((found, ordinal) => {
    if (!found.usable) return;
    const { pooledBytes } = addon.memory(ordinal);
    report[deviceName(ordinal)] = { ...usageOf(ordinal), pooledBytes };
  });
  return report;
}

/** Gives pooled memory of every device back. */
export function trim(): void {
  trimCpu();
  const addon = native();
  addon.info().cuda.devices.forEach((found, ordinal) => {
    if (found.usable) addon.trim(ordinal);
  });
}

/** Everything `limbeck info` prints. */
export interface Info extends NativeInfo {
  cuda: NativeInfo['cuda'] & {
    /** Who multiplies matrices there: 'cuBLAS 13.2.0', or 'limbeck'; empty where no device can be used. LIMBECK_CUBLAS chooses. */
    matrixProduct: string;
  };
  package: string;
  node: string;
  platform: string;
  device: Device;
}

export function info(): Info {
  const addon = native();
  const found = addon.info();
  const isUsable = found.cuda.devices.some((device) => device.usable);
  return {
    ...found,
    cuda: { ...found.cuda, matrixProduct: isUsable ? addon.cudaMatrixProduct() : '' },
    package: packageVersion(),
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    device: deviceName(defaultOrdinal),
  };
}

/** Waits until a device has done what it was given. The CPU is always done. */
export function synchronize(device?: Device): void {
  const action = 'wait for the device';
  const ordinal = parseDevice(action, device);
  if (ordinal >= 0) attempt(action, (addon) => addon.synchronize(ordinal));
}
