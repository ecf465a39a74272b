// Opens the data that a recipe names.
import type { Device } from '../device.js';
import type { CustomParts } from './context.js';
import { loadData } from './data.js';
import { openText } from './data_text.js';
import { ImageSource, noData, type DataSource } from './source.js';
import type { Recipe } from './spec.js';

/** The data of a recipe on a device, the caller's to dispose; folders count from the recipe's own. */
export async function openSource(
  { name, data }: Recipe,
  device: Device,
  { recipePath, custom = {} }: { recipePath?: string; custom?: CustomParts },
): Promise<DataSource> {
  switch (data.format) {
    case 'mnist':
      return new ImageSource(await loadData(data, recipePath), device);
    case 'custom': {
      const open = custom.data?.[data.name];
      if (!open)
        throw new TypeError(
          `Cannot use recipe ${name}: custom.data must hold "${data.name}": it holds ${Object.keys(custom.data ?? {}).join(', ') || 'none'}`,
        );
      return open({ device, options: data.options ?? {} });
    }
    case 'text':
      return openText(data, { device, ...(recipePath === undefined ? {} : { recipePath }) });
    case 'none':
      return noData;
  }
}
