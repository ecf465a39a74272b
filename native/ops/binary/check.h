// What binary needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool binary(Context& ctx, In a, In b, Out y, Int rows, Int cols, Int function, Int broadcast) {
  Int size = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size) &&
        code(ctx, "function", function, 0 LIMBECK_BINARY(LIMBECK_COUNT_ENTRY)) &&
        code(ctx, "broadcast", broadcast, 0 LIMBECK_BROADCASTS(LIMBECK_COUNT_ENTRY))))
    return false;
  const Broadcast how = Broadcast(broadcast);
  const Int size_b = how == Broadcast::same ? size : how == Broadcast::row ? cols : how == Broadcast::column ? rows : 1;
  const DType type_b = b.dtype == computed_in(a.dtype) ? b.dtype : a.dtype;
  return holds(ctx, "a", a, size) && stored(ctx, "a", a) && is(ctx, "b", b, type_b, size == 0 ? 0 : size_b) && is(ctx, "y", y, a.dtype, size);
}

}  // namespace limbeck::checks
