// Packages that only some teachers need: loaded when one is made, with the cure where they are not there.
import { LimbeckError, wording } from '../errors.js';

/**
 * What `load` imports.
 *
 * @throws LimbeckError `missing_package` naming the command that installs it
 */
export async function needed<T>(action: string, name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isMissing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    const was = isMissing ? `it is not (npm install ${name})` : (error as Error).message;
    throw new LimbeckError('missing_package', wording(action, `the npm package ${name} must be installed`, was), { cause: error });
  }
}
