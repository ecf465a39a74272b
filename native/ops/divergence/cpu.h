// The row schedule of every divergence on the CPU: maxima, exponentials kept in cache, then loss and gradient in one pass over the row.
#pragma once
#include "ops/divergence/assistant.h"
#include "ops/divergence/blocks.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

struct DivergenceCall {
  In student, teacher, indices, values, tail_log_mass, labels, row_weights, row_temperature, anchor, row_parameter;
  Out row_loss, gradient;
  Int rows, cols, student_stride, teacher_stride, gradient_stride, k;
  Target target;
  Divergence divergence;
  double parameter_a, parameter_b, interpolation, assistant_alpha, assistant_lambda;
  Residual residual;
  double log_prob_scale, temperature;
  bool temperature_squared;
  double hard_weight, label_smoothing;
  Int ignore_index, unlabelled_index;
  double gradient_scale;  // 1/denominator for mean, else 1; 0 where there is nothing to average
  bool streams = false;   // the gradient is larger than the cache and goes past it

  // p^(Tc/T) carries the probabilities of these to another temperature.
  bool renormalizes() const { return residual == Residual::renormalize || residual == Residual::renormalize_both; }
  bool is_sparse() const { return target == Target::sparse_log_probs || target == Target::sparse_weights; }
  bool skipped(Int r) const {
    return (labels && labels.as<int32_t>()[r] == ignore_index) || (row_weights && row_weights.as<float>()[r] == 0);
  }
};

// Working memory of one thread, in the order of the row schedule's needs.
template <class V> struct DivergenceScratch {
  using S = typename lane<V>::scalar;
  static constexpr Int kStage = kRowBlock;  // elements of a gradient on their way past the caches
  S *student_exp = nullptr, *teacher_exp = nullptr, *teacher_log = nullptr, *stage = nullptr;
  S *waiting_exp = nullptr, *waiting_teacher = nullptr, *waiting_third = nullptr;  // the same of the row whose gradient waits
  S *student = nullptr, *teacher = nullptr;  // rows of another type than S, as S
  uint64_t* seen = nullptr;  // one bit per column, all clear between rows
  const int32_t* ids = nullptr;  // of the row's list: the caller's, or
  int32_t* own_ids = nullptr;
  Listed<S> listed{};  // of a gradient that is 0 off the list
  double *log_p = nullptr, *centred = nullptr, *p = nullptr, *q = nullptr;
  PairBlock* blocks = nullptr;         // of the two rows of a pair
  RowBlock* student_blocks = nullptr;  // of the student's row alone
  typename Waiting<V>::Factors* factors = nullptr;

  static size_t bytes(const DivergenceCall& call, size_t& row, size_t& bits, size_t& slots) {
    row = apart(static_cast<size_t>(call.cols) * sizeof(S));
    const bool sparse = call.is_sparse();
    bits = sparse ? (static_cast<size_t>(call.cols) / 64 + 8) / 8 * 64 : 0;
    slots = sparse ? (static_cast<size_t>(call.k) * 8 + 8 + 63) / 64 * 64 : 0;  // one more for a label off the list
    return (call.streams ? 8 : 5) * row + bits + 7 * slots + (kStage + kRowBlock) * sizeof(S) +
           blocks_in(call.cols) * (sizeof(PairBlock) + sizeof(RowBlock) + sizeof(typename Waiting<V>::Factors) + sizeof(int32_t));
  }

  bool reserve(const DivergenceCall& call, Faults& faults) {
    size_t row, bits, slots;
    const size_t total = bytes(call, row, bits, slots);
    char* at = static_cast<char*>(scratch(total));
    if (!at) return faults.out_of_memory(total), false;
    student_exp = reinterpret_cast<S*>(at);
    teacher_exp = reinterpret_cast<S*>(at + row);
    teacher_log = reinterpret_cast<S*>(at + 2 * row);
    student = reinterpret_cast<S*>(at + 3 * row);
    teacher = reinterpret_cast<S*>(at + 4 * row);
    at += 5 * row;
    if (call.streams) {
      waiting_exp = reinterpret_cast<S*>(at);
      waiting_teacher = reinterpret_cast<S*>(at + row);
      waiting_third = reinterpret_cast<S*>(at + 2 * row);
      at += 3 * row;
    }
    seen = reinterpret_cast<uint64_t*>(at);
    memset(seen, 0, bits);
    log_p = reinterpret_cast<double*>(at + bits);
    centred = reinterpret_cast<double*>(at + bits + slots);
    own_ids = reinterpret_cast<int32_t*>(at + bits + 2 * slots);
    p = reinterpret_cast<double*>(at + bits + 3 * slots);
    q = reinterpret_cast<double*>(at + bits + 4 * slots);
    listed.values = reinterpret_cast<S*>(at + bits + 5 * slots);
    listed.next = reinterpret_cast<int32_t*>(at + bits + 6 * slots);
    stage = reinterpret_cast<S*>(at + bits + 7 * slots);
    listed.block = stage + kStage;
    if (call.residual == Residual::renormalize_both) std::fill_n(listed.block, kRowBlock, S(0));
    blocks = reinterpret_cast<PairBlock*>(listed.block + kRowBlock);
    student_blocks = reinterpret_cast<RowBlock*>(blocks + blocks_in(call.cols));
    factors = reinterpret_cast<typename Waiting<V>::Factors*>(student_blocks + blocks_in(call.cols));
    listed.first = reinterpret_cast<int32_t*>(factors + blocks_in(call.cols));
    return true;
  }

  // The exponentials stay as they are; the next row's go elsewhere.
  void keep() {
    std::swap(student_exp, waiting_exp);
    std::swap(teacher_exp, waiting_teacher);
    std::swap(teacher_log, waiting_third);
  }
};

// One side of a dense row: log p = (x − max)/T − log_sum and p = e·scale.
template <class S> struct Side {
  const S *x, *e;
  S max;
  double sum, log_sum, mass;
  bool finite = false;  // all of x
  const PairBlock* blocks = nullptr;  // where e is relative to the maxima of blocks
  bool steep = false;                 // of the teacher: gradients want d centred, about
  S at_peak = 0;                      // its logit in the student's likeliest column
};

// Cross-entropy with the label at temperature 1, what it adds to the row.
struct HardTerm {
  bool used = false;
  double loss = 0, coefficient = 0, log_sum = 0, uniform = 0, target = 0;
  Int label = 0;
};

template <class V, template <class> class Formula> struct DivergenceRow {
  using S = typename lane<V>::scalar;
  const DivergenceCall& call;
  Faults& faults;
  DivergenceScratch<V> memory;
  Waiting<V> waiting;  // the row before, where its gradient is not written yet
  double parameter_a = call.parameter_a;
  V a = splat<V>(parameter_a), b = splat<V>(call.parameter_b);
  RowExp<V> exponential{};
  InverseTemperature<S> inverse{};
  double exponential_for = 0;  // the temperature of the two above

  const S* student_of(Int r) const { return widened<V>(call.student, r * call.student_stride, call.cols, memory.student); }
  const S* teacher_of(Int r) const { return widened<V>(call.teacher, r * call.teacher_stride, call.cols, memory.teacher); }
  // A gradient of a half type waits where the exponentials are until finish() rounds it.
  S* gradient_of(Int r) const {
    if (!call.gradient) return nullptr;
    return is_half(call.gradient.dtype) ? memory.student_exp : call.gradient.as<S>() + r * call.gradient_stride;
  }

  // The last word on a row: its gradient is there.
  void finish(Int r, double loss) const {
    call.row_loss.as<S>()[r] = static_cast<S>(loss);
    if (call.gradient && is_half(call.gradient.dtype)) narrowed<V>(memory.student_exp, call.gradient, r * call.gradient_stride, call.cols);
  }

  // Whatever was to be written there.
  void fill(S* g, double value) {
    if (waiting.to == g) waiting.drop();
    fill_row<V>(g, call.cols, value);
  }

  void constant(Int r, double value) {
    if (S* g = gradient_of(r)) fill(g, value);
    finish(r, value);
  }

  // g = Σ array·factor of the block + offset: now, or among the reading of the next row where it goes past the caches.
  // factors_of(begin, factors) gives the block's.
  template <class F> void put_terms(S* g, std::initializer_list<const S*> arrays, double offset, F factors_of) {
    waiting.to = g;
    waiting.listed = nullptr;
    waiting.terms = 0;
    for (const S* array : arrays) waiting.from[waiting.terms++] = array;
    waiting.offset = static_cast<S>(offset);
    waiting.cols = call.cols;
    waiting.streams = call.streams;
    waiting.factors = memory.factors;
    for (Int begin = 0; begin < call.cols; begin += kRowBlock) factors_of(begin, memory.factors[begin / kRowBlock].on);
    if (call.streams) memory.keep();
    else waiting.finish();
  }

  // g = the first `count` of memory.q at memory.ids, and 0 elsewhere.
  void put_list(S* g, Int count) {
    for (Int j = 0; j < count; ++j) memory.listed.values[j] = static_cast<S>(memory.q[j]);
    memory.listed.ids = memory.ids;
    memory.listed.chain(count, call.cols);
    waiting.to = g;
    waiting.listed = &memory.listed;
    waiting.terms = 1;
    waiting.offset = 0;
    waiting.cols = call.cols;
    waiting.streams = call.streams;
    waiting.factors = memory.factors;
    for (size_t block = 0; block < blocks_in(call.cols); ++block) memory.factors[block].on[0] = 1;
    if (!call.streams) waiting.finish();
  }

  void run(Int r) {
    if (call.skipped(r) || call.cols == 0) return constant(r, 0);
    const double weight = call.row_weights ? static_cast<double>(call.row_weights.as<float>()[r]) : 1.0;
    HardTerm hard;
    if (call.labels) {
      const int32_t label = call.labels.as<int32_t>()[r];
      if (label != call.unlabelled_index) {
        if (label < 0 || label >= call.cols)
          return faults.refuse(r, "labels must be in [0, %lld): label %lld is %d", (long long)call.cols, (long long)r, label);
        hard.used = call.hard_weight > 0;
        hard.label = label;
      }
    }
    const double temperature = temperature_of(faults, call.row_temperature, call.temperature, r);
    if (!(temperature == temperature)) return;
    if (temperature != exponential_for) {
      exponential = RowExp<V>::of(temperature);
      inverse = InverseTemperature<S>::of(temperature);
      exponential_for = temperature;
    }
    const bool soft = call.hard_weight < 1;
    if (!soft && !hard.used) return constant(r, 0);
    if (call.row_parameter) {
      parameter_a = static_cast<double>(call.row_parameter.as<float>()[r]);
      a = splat<V>(parameter_a);
    }

    const S* x = student_of(r);
    S* g = gradient_of(r);
    const bool wants = g && call.gradient_scale != 0;
    const double squared = call.temperature_squared ? temperature * temperature : 1;
    const double soft_loss = weight * (1 - call.hard_weight) * squared;
    const double soft_gradient = wants ? soft_loss / temperature * call.gradient_scale : 0;
    hard.coefficient = weight * call.hard_weight * call.gradient_scale;
    // Exponentials go where the gradient will be, unless the student lies there.
    S* e = wants && g != x && !call.streams ? g : memory.student_exp;
    constexpr Int W = lane<V>::width;
    if constexpr (W > 1 && !kAssisted)
      if (soft && !hard.used && call.target == Target::logits && call.cols <= 2 * W) {
        const S* t = teacher_of(r);
        const double loss = call.cols <= W ? short_row<1>(x, t, wants ? g : nullptr, soft_gradient) : short_row<2>(x, t, wants ? g : nullptr, soft_gradient);
        if (g && no_gradient(loss)) fill_row<V>(g, call.cols, NAN);
        if (g && !wants) fill_row<V>(g, call.cols, 0);
        return finish(r, soft_loss * loss);
      }
    const bool paired = W > 1 && !kAssisted && soft && call.target == Target::logits;

    // Not every row is walked in blocks.
    if (soft && !paired && !call.is_sparse()) waiting.finish();
    double loss;
    if (!soft) loss = hard_only(x, e, wants ? g : nullptr, hard);
    else if (call.is_sparse()) loss = sparse(r, x, e, wants ? g : nullptr, temperature, soft_gradient, hard);
    else if (paired) loss = pair(x, teacher_of(r), e, wants ? g : nullptr, temperature, soft_gradient, hard);
    else loss = dense(r, x, e, wants ? g : nullptr, temperature, soft_gradient, hard);
    if (faults.beyond(r + 1)) return;  // refused: nothing is written
    if (!(loss == loss) || !(hard.loss == hard.loss)) return constant(r, NAN);
    if (g && soft && no_gradient(loss)) fill(g, NAN);
    if (g && !wants) fill(g, 0);
    finish(r, (soft ? soft_loss * loss : 0) + (hard.used ? weight * call.hard_weight * hard.loss : 0));
  }

  // An infinite loss has no gradient, except where each outcome knows its own.
  static bool no_gradient(double loss) { return Formula<V>::needs_mean && loss == INFINITY; }

  static double exact_rest(const S* x, S max, Int cols) { return exact_scaled_sum(x, static_cast<double>(max), 1, cols); }

  // CE = −(1−ε)·ln q_y − ε/V·Σ ln q. Needs the student untouched.
  // `total`: Σ of the logits, where it is known.
  void hard_loss(const S* x, S max, double sum, HardTerm& hard, double total = NAN) const {
    hard.log_sum = log(sum);
    // A confident row: the digits of its small rest went into the rounding of 1 + rest.
    if (x[hard.label] == max && sum < 1.5) hard.log_sum = log1p(exact_rest(x, max, hard.label) + exact_rest(x + hard.label + 1, max, call.cols - hard.label - 1));
    hard.uniform = call.label_smoothing / static_cast<double>(call.cols);
    hard.target = 1 - call.label_smoothing;
    double loss = 0;
    if (hard.target > 0) loss = hard.target * (hard.log_sum - (static_cast<double>(x[hard.label]) - static_cast<double>(max)));
    if (call.label_smoothing > 0) {
      const V m = splat<V>(max);
      double centred = total - static_cast<double>(max) * static_cast<double>(call.cols);
      if (!(centred == centred))
        centred = sum_each<V, 1>(call.cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
                    part[0] = part[0] + (span.load(x + i, max) - m);
                  }).sum[0];
      loss += call.label_smoothing * hard.log_sum - hard.uniform * centred;
    }
    hard.loss = loss;
  }

  double hard_only(const S* x, S* e, S* g, HardTerm& hard) {
    const RowExp<V> plain = RowExp<V>::of(1);
    const BlockedRow row = call.label_smoothing > 0 ? exp_blocks<V, true>(x, e, call.cols, 1, plain, memory.student_blocks, waiting)
                                                    : exp_blocks<V>(x, e, call.cols, 1, plain, memory.student_blocks, waiting);
    if (!(row.sum == row.sum)) return NAN;
    hard_loss(x, static_cast<S>(row.max), row.sum, hard, row.total);
    if (g) {
      const double share = memory.student_blocks[hard.label / kRowBlock].scale / row.sum;
      // The label's part goes in among the exponentials, so that the row is written once and in order.
      const bool patched = share > 1e-25;
      if (patched) e[hard.label] = static_cast<S>(static_cast<double>(e[hard.label]) - hard.target / share);
      put_terms(g, {e}, -hard.coefficient * hard.uniform, [&](Int begin, S* on) {
        on[0] = static_cast<S>(hard.coefficient / row.sum * memory.student_blocks[begin / kRowBlock].scale);
      });
      if (!patched) {
        waiting.finish();
        label_gradient(g, hard);
      }
    }
    return 0;
  }

  // step(begin, n, to) leaves the gradient of [begin, begin + n) in `to`.
  template <class F> LIMBECK_FN void in_blocks(S* g, F step) const {
    constexpr Int kBlock = DivergenceScratch<V>::kStage;
    const bool streams = g && call.streams;
    for (Int begin = 0; begin < call.cols; begin += kBlock) {
      const Int n = call.cols - begin < kBlock ? call.cols - begin : kBlock;
      step(begin, n, streams || !g ? memory.stage : g + begin);
      if (streams) stream_row<V>(g + begin, memory.stage, n);
    }
  }

  // N sums over the row, block by block; enter(begin) comes before each.
  template <int N, class E, class F> LIMBECK_FN Sums<N> in_sums(E enter, F step) const {
    Sums<N> all{};
    for (Int begin = 0; begin < call.cols; begin += kRowBlock) {
      enter(begin);
      const Sums<N> part = sum_each<V, N>(block_cols(begin, call.cols), [&](Int j, auto span, V* part) LIMBECK_INLINE { step(begin + j, span, part); });
      for (int k = 0; k < N; ++k) all.sum[k] += part.sum[k];
    }
    return all;
  }

  // g = value(i, span), past the caches where the gradient goes there.
  template <class E, class F> LIMBECK_FN void put_row(S* g, E enter, F value) const {
    for (Int begin = 0; begin < call.cols; begin += kRowBlock) {
      enter(begin);
      const Int n = block_cols(begin, call.cols);
      S* to = call.streams ? memory.stage : g + begin;
      if (call.streams && reinterpret_cast<uintptr_t>(g + begin) % 64 == 0) {
        each<V>(n, [&](Int j, auto span) LIMBECK_INLINE { span.stream(g + begin + j, value(begin + j, span)); });
      } else {
        each<V>(n, [&](Int j, auto span) LIMBECK_INLINE { span.store(to + j, value(begin + j, span)); });
        if (call.streams) stream_row<V>(g + begin, to, n);
      }
    }
  }

  static void label_gradient(S* g, const HardTerm& hard) {
    if (hard.used) g[hard.label] = static_cast<S>(static_cast<double>(g[hard.label]) - hard.coefficient * hard.target);
  }

  // The hard term's statistics where the row has a soft term at `temperature` too.
  void hard_beside(const S* x, S max, double sum, double temperature, HardTerm& hard) const {
    if (hard.used) hard_loss(x, max, temperature == 1 ? sum : exp_row<V>(x, max, RowExp<V>::of(1), static_cast<S*>(nullptr), call.cols), hard);
  }

  // A confident row: the digits of its small rest went into the rounding of 1 + rest. Where the loss moves with ln Σ itself they are wanted.
  static constexpr bool kExactWhenConfident = Formula<V>::first_order || (!Formula<V>::needs_mean && Formula<V>::needs_logs);

  static constexpr bool kAssisted = is_assisted<Formula>;
  double loss_at(const Outcome<double>& o) const {
    if constexpr (kAssisted) return loss_of(call.divergence, o, parameter_a, call.parameter_b);
    else return Formula<double>::loss(o, parameter_a, call.parameter_b);
  }
  double slope_at(const Outcome<double>& o) const {
    if constexpr (kAssisted) return slope_of(call.divergence, o, parameter_a, call.parameter_b);
    else return Formula<double>::gradient(o, parameter_a, call.parameter_b);
  }

  // Logits between the anchor's and the teacher's, less their maximum.
  const S* interpolated(Int r, const S* u) const {
    S *hi = memory.teacher_log, *lo = memory.teacher_exp;
    const S* y = widened<V>(call.anchor, r * call.student_stride, call.cols, hi);
    const V y_max = splat<V>(largest<V>(y, call.cols)), u_max = splat<V>(largest<V>(u, call.cols));
    Interpolation<V> at = Interpolation<V>::of(call.interpolation);
    each<V>(call.cols, [&](Int i, auto span) LIMBECK_INLINE {
      span.store(hi + i, at(span.load(y + i, -INFINITY) - y_max, span.load(u + i, -INFINITY) - u_max));
      span.store(lo + i, at.lo);
    });
    const V top = splat<V>(largest<V>(hi, call.cols));
    each<V>(call.cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(hi + i, (span.load(hi + i, -INFINITY) - top) + span.load(lo + i, 0)); });
    return hi;
  }

  // Teacher of a dense row: logits, or log-probabilities that keep their mass at temperature 1 and are logits of p^(1/T) otherwise.
  bool teacher_side(Int r, double temperature, Side<S>& teacher) const {
    const S* t = teacher_of(r);
    const S* given = nullptr;
    if (call.target == Target::interpolated) t = interpolated(r, t);
    if (call.target == Target::probs) {
      S* logs = memory.teacher_log;
      if (temperature < 1) {
        // What 1/T magnifies has to be exact: the logarithm in double, relative to the largest.
        const double top = log(static_cast<double>(largest<V>(t, call.cols)));
        for (Int i = 0; i < call.cols; ++i) logs[i] = static_cast<S>(log(static_cast<double>(t[i])) - top);
      } else {
        each<V>(call.cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(logs + i, log_(span.load(t + i, 1))); });
      }
      given = t;
      t = logs;
    }
    if (call.target == Target::logits || call.target == Target::interpolated || temperature != 1 || !Formula<V>::any_mass) {
      const Range<S> range = range_of<V>(t, call.cols);
      const S max = range.max;
      double sum = exp_row<V>(t, max, exponential, memory.teacher_exp, call.cols, range.span());
      if (kExactWhenConfident && sum < 1.5) sum = exact_scaled_sum(t, static_cast<double>(max), 1 / temperature, call.cols);
      teacher = {t, memory.teacher_exp, max, sum, log(sum), 1, range.finite};
      return sum == sum;
    }
    double mass;
    if (given) {
      mass = exact_sum_row(given, call.cols);
    } else {
      given = memory.teacher_exp;
      mass = exact_exp_row(t, memory.teacher_exp, call.cols);
    }
    teacher = {t, given, 0, 1, 0, mass};
    // A negative probability shows in its logarithm only.
    return mass > 0 && mass < INFINITY;
  }

  double dense(Int r, const S* x, S* e, S* g, double temperature, double coefficient, HardTerm& hard) const {
    Side<S> teacher;
    return teacher_side(r, temperature, teacher) ? dense_against(teacher, x, range_of<V>(x, call.cols), e, g, temperature, coefficient, hard) : NAN;
  }

  double dense_against(const Side<S>& teacher, const S* x, const Range<S>& range, S* e, S* g, double temperature, double coefficient, HardTerm& hard,
                       double* log_sum = nullptr) const {
    const S max = range.max;
    Side<S> student{x, e, max, 0, 0, 1, range.finite};
    student.sum = exp_row<V>(x, max, exponential, e, call.cols, range.span());
    if (!(student.sum == student.sum)) return NAN;
    if (kExactWhenConfident && student.sum < 1.5) student.sum = exact_scaled_sum(x, static_cast<double>(max), 1 / temperature, call.cols);
    student.log_sum = log(student.sum);
    if (log_sum) *log_sum = student.log_sum;
    hard_beside(x, max, student.sum, temperature, hard);
    const bool plain = !hard.used && teacher.mass == 1 && student.finite && teacher.finite;
    double loss;
    if constexpr (kAssisted) {
      loss = assisted_pass(student, teacher, g, coefficient, hard);
    } else {
      const Side<S> against = centred(teacher, x, max);
      if (!g) loss = plain ? pass<true, false>(student, against, g, coefficient, hard) : pass<false, false>(student, against, g, coefficient, hard);
      else loss = plain ? pass<true, true>(student, against, g, coefficient, hard) : pass<false, true>(student, against, g, coefficient, hard);
    }
    if (g) label_gradient(g, hard);
    return Formula<V>::adds_mass ? loss + (teacher.mass - 1) : loss;
  }

  // The teacher's side, with what it says where the student is largest.
  Side<S> centred(Side<S> teacher, const S* x, S max) const {
    if constexpr (Formula<V>::centred_gradient) {
      teacher.at_peak = teacher.x[std::find(x, x + call.cols, max) - x];
      teacher.steep = teacher.at_peak > -INFINITY;
    }
    return teacher;
  }

  // Narrow rows of logits alone go side by side, one in each lane. A formula that wants ln Σ to double precision takes them one by one.
  bool halves() const { return is_half(call.student.dtype) || is_half(call.teacher.dtype) || (call.gradient && is_half(call.gradient.dtype)); }
  bool abreast() const {
    constexpr Int W = lane<V>::width;
    return W > 1 && !Formula<V>::first_order && (Formula<V>::needs_mean || !Formula<V>::needs_logs) && call.target == Target::logits && !halves() && !call.labels &&
           !call.row_weights && !call.row_temperature && !call.row_parameter && call.hard_weight < 1 && call.cols > 0 && call.cols <= 2 * W;
  }

  void run_abreast(Int begin, Int end) const {
    constexpr Int W = lane<V>::width;
    const double squared = call.temperature_squared ? call.temperature * call.temperature : 1, soft_loss = (1 - call.hard_weight) * squared;
    const double coefficient = soft_loss / call.temperature * call.gradient_scale;
    const RowExp<V> exponential = RowExp<V>::of(call.temperature);
    const V scale = splat<V>(InverseTemperature<S>::of(call.temperature).hi), factor = splat<V>(coefficient);
    const Int cols = call.cols;
    alignas(64) S student[2 * W * W], teacher[2 * W * W], losses[W];
    for (Int r = begin; r < end; r += W) {
      const Int rows = end - r < W ? end - r : W;
      const S *x = call.student.as<S>() + r * call.student_stride, *t = call.teacher.as<S>() + r * call.teacher_stride;
      // Lanes behind the last row repeat it.
      for (Int k = 0; k < W; ++k) {
        const Int row = k < rows ? k : rows - 1;
        for (Int c = 0; c < cols; ++c) {
          student[c * W + k] = x[row * call.student_stride + c];
          teacher[c * W + k] = t[row * call.teacher_stride + c];
        }
      }
      V top_s = splat<V>(-INFINITY), top_t = top_s, sum_s = splat<V>(0), sum_t = sum_s, loss = sum_s, mean = sum_s;
      [[maybe_unused]] V at_peak = sum_s;  // the teacher's logits where the students are largest
      for (Int c = 0; c < cols; ++c) {
        const V xs = vec<V>::load(student + c * W), xt = vec<V>::load(teacher + c * W);
        if constexpr (Formula<V>::centred_gradient) at_peak = select_(lt_(top_s, xs), xt, at_peak);
        top_s = max_(xs, top_s);
        top_t = max_(xt, top_t);
      }
      if constexpr (Formula<V>::centred_gradient) at_peak = select_(eq_(at_peak, splat<V>(-INFINITY)), top_t, at_peak);
      V q[2 * W], p[2 * W];
      for (Int c = 0; c < cols; ++c) {
        const V zs = vec<V>::load(student + c * W) - top_s, zt = vec<V>::load(teacher + c * W) - top_t;
        q[c] = exponential(zs);
        p[c] = exponential(zt);
        sum_s = sum_s + q[c];
        sum_t = sum_t + p[c];
      }
      const V student_scale = splat<V>(1) / sum_s, teacher_scale = splat<V>(1) / sum_t, log_ratio = log_(sum_t / sum_s);
      // One NaN makes the row NaN: it is in the sums.
      const V nothing = (sum_s - sum_s) + (sum_t - sum_t);
      for (Int c = 0; c < cols; ++c) {
        const V xt = vec<V>::load(teacher + c * W), zs = vec<V>::load(student + c * W) - top_s, zt = xt - top_t;
        q[c] = q[c] * student_scale;
        Outcome<V> o{q[c], p[c] * teacher_scale, zs, zt, fma_(zs - zt, scale, log_ratio)};
        if constexpr (Formula<V>::centred_gradient) o.centred = (zs - (xt - at_peak)) * scale;
        loss = loss + Formula<V>::loss(o, a, b);
        p[c] = Formula<V>::gradient(o, a, b);
        if constexpr (Formula<V>::needs_mean) mean = mean + p[c];
      }
      vec<V>::store(losses, loss + nothing);
      for (Int k = 0; k < rows; ++k) finish(r + k, soft_loss * static_cast<double>(losses[k]));
      if (!call.gradient) continue;
      S* g = gradient_of(r);
      for (Int c = 0; c < cols; ++c) {
        V slope = p[c];
        if constexpr (Formula<V>::needs_mean) slope = slope - q[c] * mean;
        vec<V>::store(student + c * W, call.gradient_scale != 0 ? fma_(slope, factor, nothing) : splat<V>(0));
      }
      for (Int k = 0; k < rows; ++k) {
        for (Int c = 0; c < cols; ++c) g[k * call.gradient_stride + c] = student[c * W + k];
        if (call.gradient_scale != 0 && no_gradient(static_cast<double>(losses[k]))) fill_row<V>(g + k * call.gradient_stride, cols, NAN);
      }
    }
  }

  // A dense row of logits that fits N vectors never leaves the registers. NaN fills the gradient by itself.
  template <int N> double short_row(const S* x, const S* t, S* g, double coefficient) const {
    constexpr Int W = lane<V>::width;
    const Int last = call.cols - (N - 1) * W;
    const auto load = [&](const S* p, int k) LIMBECK_INLINE { return k + 1 < N ? vec<V>::load(p + k * W) : vec<V>::load(p + k * W, last, S(-INFINITY)); };
    V zs[N], zt[N], q[N], p[N];
    V top_s = splat<V>(-INFINITY), top_t = top_s, sum_s = splat<V>(0), sum_t = sum_s, sum = sum_s, mean = sum_s, drift = sum_s;
    for (int k = 0; k < N; ++k) {
      zs[k] = load(x, k);
      zt[k] = load(t, k);
      top_s = max_(zs[k], top_s);
      top_t = max_(zt[k], top_t);
    }
    top_s = splat<V>(vec<V>::largest(top_s));
    top_t = splat<V>(vec<V>::largest(top_t));
    [[maybe_unused]] V lost[N], centred[N], ties = splat<V>(0);
    if constexpr (Formula<V>::centred_gradient) {
      V at_peak = splat<V>(-INFINITY);
      for (int k = 0; k < N; ++k) at_peak = max_(select_(eq_(zs[k], top_s), zt[k], splat<V>(-INFINITY)), at_peak);
      at_peak = splat<V>(vec<V>::largest(at_peak));
      at_peak = select_(eq_(at_peak, splat<V>(-INFINITY)), top_t, at_peak);
      for (int k = 0; k < N; ++k) centred[k] = (zs[k] - top_s) - (zt[k] - at_peak);
    }
    // A loss that moves with ln Σ itself wants the digits that a confident row's small rest would lose beside 1.
    constexpr bool apart = kExactWhenConfident && !Formula<V>::first_order;
    for (int k = 0; k < N; ++k) {
      if constexpr (Formula<V>::first_order) lost[k] = lost_(zs[k], top_s, zs[k] - top_s) - lost_(zt[k], top_t, zt[k] - top_t);
      zs[k] = zs[k] - top_s;
      zt[k] = zt[k] - top_t;
      q[k] = exponential(zs[k]);
      p[k] = exponential(zt[k]);
      if constexpr (apart) {
        const auto tie = eq_(zs[k], splat<V>(0));
        ties = ties + select_(tie, splat<V>(1), splat<V>(0));
        sum_s = sum_s + select_(tie, splat<V>(0), q[k]);
      } else {
        sum_s = sum_s + q[k];
      }
      sum_t = sum_t + p[k];
    }
    const double rest = vec<V>::total(sum_s), tied = vec<V>::total(ties), student_sum = tied + rest, teacher_sum = vec<V>::total(sum_t);
    const V student_scale = splat<V>(1 / student_sum), teacher_scale = splat<V>(1 / teacher_sum), scale = splat<V>(inverse.hi);
    const V log_ratio = splat<V>(log(teacher_sum / student_sum));
    // One NaN makes the row NaN: it is in the sums.
    const V nothing = splat<V>((student_sum - student_sum) + (teacher_sum - teacher_sum));
    Outcome<V> o[N]{};
    for (int k = 0; k < N; ++k) {
      V gap = zs[k] - zt[k];
      if constexpr (Formula<V>::first_order) gap = gap + lost[k];
      o[k] = {q[k] * student_scale, p[k] * teacher_scale, zs[k], zt[k], fma_(gap, scale, log_ratio)};
      if constexpr (Formula<V>::needs_logs) {
        o[k].log_q = fma_(zs[k], scale, splat<V>(-(apart ? log1p((tied - 1) + rest) : log(student_sum))));
        o[k].log_p = fma_(zt[k], scale, splat<V>(-log(teacher_sum)));
      }
      if constexpr (Formula<V>::centred_gradient) o[k].centred = centred[k] * scale;
      sum = sum + Formula<V>::loss(o[k], a, b);
      if constexpr (Formula<V>::needs_mean) mean = mean + Formula<V>::gradient(o[k], a, b);
      if constexpr (Formula<V>::first_order) drift = drift + difference_(o[k]);
    }
    double loss = vec<V>::total(sum + nothing);
    if constexpr (Formula<V>::first_order) {
      const double over = vec<V>::total(drift);
      // Beside a larger loss the ties' part does not show.
      if (loss < 0.01) {
        V change = splat<V>(0);
        for (int k = 0; k < N; ++k) change = change + Formula<V>::tie_loss(o[k], splat<V>(over));
        loss += vec<V>::total(change);
      }
      loss -= vec<V>::total(mean) * over;
    }
    if (!g) return loss;
    const V factor = splat<V>(coefficient);
    if constexpr (Formula<V>::needs_mean) mean = splat<V>(vec<V>::total(mean));
    for (int k = 0; k < N; ++k) {
      V slope = Formula<V>::gradient(o[k], a, b);
      if constexpr (Formula<V>::needs_mean) slope = slope - o[k].q * mean;
      slope = fma_(slope, factor, nothing);
      if (k + 1 < N) vec<V>::store(g + k * W, slope);
      else vec<V>::store(g + k * W, slope, last);
    }
    return loss;
  }

  // Both sides as logits, walked together. A row whose sides clearly differ is done from sums; another one outcome by outcome.
  double pair(const S* x, const S* t, S* e, S* g, double temperature, double coefficient, HardTerm& hard) {
    if constexpr (lane<V>::width > 1 && !kAssisted) {
      using F = Formula<V>;
      const Exponentials<S> to{e, memory.teacher_exp, memory.teacher_log};
      Pair row = exp_pair<V, far_needs<F>>(x, t, to, call.cols, temperature, exponential, memory.blocks, waiting);
      if (!(row.student.sum == row.student.sum) || !(row.teacher.sum == row.teacher.sum)) return NAN;
      const S x_max = static_cast<S>(row.student.max), t_max = static_cast<S>(row.teacher.max);
      if (kExactWhenConfident && row.student.sum < 1.5) row.student.sum = exact_scaled_sum(x, row.student.max, 1 / temperature, call.cols);
      const bool plain = !hard.used && row.finite;
      bool steep = F::centred_gradient;  // until the sums say otherwise
      if constexpr (far_needs<F> != 0)
        if (plain && row.is_narrow(exponential)) {
          FarRow far = far_row(row, temperature);
          if constexpr ((far_needs<F> & kFromOutcomes) != 0) outcomes<F>(to, row, far);
          const FarLoss loss = F::far_loss(far, parameter_a, call.parameter_b);
          const bool few = call.cols < 256 || ((far_needs<F> & kFromOutcomes) && row.student.sum < 32);
          if constexpr (F::centred_gradient) steep = !(far.q_size < kSteep);
          if (loss.holds(few) && !steep) {
            if (g) far_gradient<F>(to, g, row, far, coefficient, temperature);
            return loss.loss;
          }
          if constexpr ((far_needs<F> & kFromOutcomes) != 0) exp_again<V>(t, to.teacher, call.cols, exponential, memory.blocks);
        }
      if (kExactWhenConfident && row.teacher.sum < 1.5) row.teacher.sum = exact_scaled_sum(t, row.teacher.max, 1 / temperature, call.cols);
      const Side<S> student{x, e, x_max, row.student.sum, log(row.student.sum), 1, row.finite, memory.blocks};
      Side<S> teacher{t, to.teacher, t_max, row.teacher.sum, log(row.teacher.sum), 1, row.finite, memory.blocks};
      if (steep) teacher = centred(teacher, x, x_max);
      hard_beside(x, x_max, row.student.sum, temperature, hard);
      double loss;
      if (!g) loss = plain ? pass<true, false>(student, teacher, g, coefficient, hard) : pass<false, false>(student, teacher, g, coefficient, hard);
      else loss = plain ? pass<true, true>(student, teacher, g, coefficient, hard) : pass<false, true>(student, teacher, g, coefficient, hard);
      if (g) label_gradient(g, hard);
      return loss;
    } else {
      return NAN;
    }
  }

  // far_outcome's sums. Its slopes take the place of the teacher's exponentials, in the unit of the student's.
  template <class F> void outcomes(const Exponentials<S>& from, const Pair& row, FarRow& far) const {
    for (Int begin = 0; begin < call.cols; begin += kRowBlock) {
      const PairBlock& block = memory.blocks[begin / kRowBlock];
      const double unit = far_unit<F> * block.student.scale / row.student.sum;
      const V teacher_scale = splat<V>(block.teacher.scale / row.teacher.sum * row.student.sum / block.student.scale);
      const Sums<2> sums = sum_each<V, 2>(block_cols(begin, call.cols), [&](Int j, auto span, V* part) LIMBECK_INLINE {
        const Int i = begin + j;
        const V q = span.load(from.student + i, 1), p = span.load(from.teacher + i, 1) * teacher_scale;
        V slope;
        const V loss = span.only(F::far_outcome(q, p, a, b, slope));
        part[0] = part[0] + loss;
        part[1] = part[1] + span.only(slope);
        span.store(from.teacher + i, slope);
      });
      far.loss += unit * sums.sum[0];
      far.slope += unit * sums.sum[1];
    }
  }

  // A sum of what the first walk left behind, each times a number of the block.
  template <class F> void far_gradient(const Exponentials<S>& from, S* g, const Pair& row, const FarRow& far, double coefficient, double temperature) {
    constexpr unsigned needs = far_needs<F>;
    constexpr bool slopes = (needs & kFromOutcomes) != 0, third = (needs & kThird) != 0, second = has_second(needs);
    FarGradient c{-far.slope, far_unit<F>};
    if constexpr (!slopes) c = F::far_gradient(far, parameter_a, call.parameter_b);
    const auto factors = [&](Int begin, S* on) {
      const PairBlock& block = memory.blocks[begin / kRowBlock];
      const double q = coefficient * block.student.scale / row.student.sum, p = slopes ? q : coefficient * block.teacher.scale / row.teacher.sum;
      // d = (gap in the block + shift)/T + ln(Σ/Σ).
      on[0] = static_cast<S>(q * (c.q + c.qd * (block.shift / temperature + row.log_ratio)));
      if (second) on[1] = static_cast<S>(p * c.p);
      if (third)
        on[second ? 2 : 1] = static_cast<S>(
            needs & kSumRoot ? c.root * coefficient * sqrt(block.student.scale * block.teacher.scale / (row.student.sum * row.teacher.sum)) : q * c.qd / temperature);
    };
    if constexpr (second && third) put_terms(g, {from.student, from.teacher, from.third}, 0, factors);
    else put_terms(g, {from.student, second ? from.teacher : from.third}, 0, factors);
  }

  // Loss and gradient of all outcomes. Plain: a teacher of mass 1, no hard term, and nothing infinite.
  template <bool plain, bool with_gradient>
  double pass(const Side<S>& student, const Side<S>& teacher, S* g, double coefficient, const HardTerm& hard) const {
    const V student_max = splat<V>(student.max), teacher_max = splat<V>(teacher.max), scale = splat<V>(inverse.hi);
    V student_scale = splat<V>(1 / student.sum), teacher_scale = splat<V>(1 / teacher.sum);
    const auto enter = [&](Int begin) LIMBECK_INLINE {
      if (!student.blocks) return;
      const PairBlock& block = student.blocks[begin / kRowBlock];
      student_scale = splat<V>(block.student.scale / student.sum);
      teacher_scale = splat<V>(block.teacher.scale / teacher.sum);
    };
    const V student_log = splat<V>(-student.log_sum), teacher_log = splat<V>(-teacher.log_sum);
    const V log_ratio = splat<V>(teacher.log_sum - student.log_sum), factor = splat<V>(coefficient);
    const V excess = splat<V>(Formula<V>::any_mass ? coefficient * (teacher.mass - 1) : 0);
    const V hard_factor = splat<V>(hard.coefficient), hard_log = splat<V>(hard.log_sum), hard_offset = splat<V>(-hard.coefficient * hard.uniform);
    const bool has_hard = hard.used;
    [[maybe_unused]] const bool steep = teacher.steep;
    [[maybe_unused]] const V at_peak = splat<V>(teacher.at_peak);
    const auto outcome = [&](Int i, auto span) LIMBECK_INLINE {
      // What lies behind the row's end counts as impossible, and where nothing is, as equal on both sides with no mass.
      const V x = span.load(student.x + i, plain ? static_cast<double>(student.max) : -INFINITY);
      const V t = span.load(teacher.x + i, plain ? static_cast<double>(teacher.max) : -INFINITY);
      const V zs = x - student_max, zt = t - teacher_max;
      V gap = zs - zt;
      if constexpr (Formula<V>::first_order) gap = gap + (lost_(x, student_max, zs) - lost_(t, teacher_max, zt));
      const V q = span.load(student.e + i, 0) * student_scale, p = span.load(teacher.e + i, 0) * teacher_scale, d = fma_(gap, scale, log_ratio);
      Outcome<V> o{q, p, zs, zt, d, plain};
      if constexpr (Formula<V>::needs_logs) {
        o.log_q = fma_(zs, scale, student_log);
        o.log_p = fma_(zt, scale, teacher_log);
      }
      if constexpr (Formula<V>::centred_gradient)
        if (steep) o.centred = (zs - (t - at_peak)) * scale;
      return o;
    };
    const auto beside = [&](Int i, auto span, V q, V value) LIMBECK_INLINE {
      if constexpr (plain) return value;
      value = fma_(q, excess, value);
      if (has_hard) value = value + fma_(exp_(span.load(student.x + i, -INFINITY) - student_max - hard_log), hard_factor, hard_offset);
      return value;
    };
    constexpr bool first_order = Formula<V>::first_order;
    if constexpr (!Formula<V>::needs_mean) {
      double loss = 0;
      in_blocks(g, [&](Int begin, Int n, S* to) LIMBECK_INLINE {
        enter(begin);
        loss += sum_each<V, 1>(n, [&](Int j, auto span, V* part) LIMBECK_INLINE {
                  const Int i = begin + j;
                  const Outcome<V> o = outcome(i, span);
                  part[0] = part[0] + Formula<V>::loss(o, a, b);
                  if constexpr (with_gradient) span.store(to + j, beside(i, span, o.q, Formula<V>::gradient(o, a, b) * factor));
                }).sum[0];
      });
      return loss;
    } else if constexpr (!with_gradient && !first_order) {
      return in_sums<1>(enter, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + Formula<V>::loss(outcome(i, span), a, b); }).sum[0];
    } else {
      // What the mean is taken of stays, in place of the teacher's exponentials, for the second loop.
      const auto sums = in_sums<first_order ? 4 : 2>(enter, [&](Int i, auto span, V* part) LIMBECK_INLINE {
        const Outcome<V> o = outcome(i, span);
        const V slope = Formula<V>::gradient(o, a, b);
        part[0] = part[0] + Formula<V>::loss(o, a, b);
        part[1] = part[1] + slope;
        if constexpr (first_order) {
          part[2] = part[2] + difference_(o);
          part[3] = part[3] + abs_(slope);
        }
        if constexpr (with_gradient) span.store(memory.teacher_exp + i, slope);
      });
      double loss = sums.sum[0];
      if constexpr (first_order) {
        const double drift = sums.sum[2] - (1 - teacher.mass);
        loss -= sums.sum[1] * drift;
        // The ties' mass is what the slopes lack of ½.
        if (fabs(drift) * (0.5 - sums.sum[3]) > 1e-9) {
          const V over = splat<V>(drift);
          loss += in_sums<1>(enter, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + Formula<V>::tie_loss(outcome(i, span), over); }).sum[0];
        }
      }
      if constexpr (with_gradient) {
        const V mean = splat<V>(sums.sum[1]);
        put_row(g, enter, [&](Int i, auto span) LIMBECK_INLINE {
          const V q = span.load(student.e + i, 0) * student_scale;
          return beside(i, span, q, (span.load(memory.teacher_exp + i, 0) - q * mean) * factor);
        });
      }
      return loss;
    }
  }

  // As pass, with the assistant in the student's place: its normaliser, the loss and its slopes in r, what they sum to, and the slopes in q.
  double assisted_pass(const Side<S>& student, const Side<S>& teacher, S* g, double coefficient, const HardTerm& hard) const {
    const V student_max = splat<V>(student.max), teacher_max = splat<V>(teacher.max), scale = splat<V>(inverse.hi);
    const V student_scale = splat<V>(1 / student.sum), teacher_scale = splat<V>(1 / teacher.sum);
    const V student_log = splat<V>(-student.log_sum), teacher_log = splat<V>(-teacher.log_sum), log_ratio = splat<V>(teacher.log_sum - student.log_sum);
    const V hard_factor = splat<V>(hard.coefficient), hard_log = splat<V>(hard.log_sum), hard_offset = splat<V>(-hard.coefficient * hard.uniform);
    const Assistant<V> assistant = Assistant<V>::of(call.assistant_alpha, call.assistant_lambda);
    V log_z = splat<V>(0);
    const auto outcome = [&](Int i, auto span) LIMBECK_INLINE {
      const V x = span.load(student.x + i, -INFINITY), t = span.load(teacher.x + i, -INFINITY);
      const V zs = x - student_max, zt = t - teacher_max, gap = (zs - zt) + (lost_(x, student_max, zs) - lost_(t, teacher_max, zt));
      return Outcome<V>{span.load(student.e + i, 0) * student_scale, span.load(teacher.e + i, 0) * teacher_scale,
                        fma_(zs, scale, student_log), fma_(zt, scale, teacher_log), fma_(gap, scale, log_ratio)};
    };
    V omega = log_z;
    const auto mass = [&]() LIMBECK_INLINE {
      return sum_each<V, 1>(call.cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
               part[0] = part[0] + assistant.mix(outcome(i, span), log_z, omega).q;
             }).sum[0];
    };
    double z = mass(), top = 0;
    if (!(z > kFaintMixture)) {
      V highest = splat<V>(-INFINITY);
      each<V>(call.cols, [&](Int i, auto span) LIMBECK_INLINE { highest = max_(assistant.mix(outcome(i, span), log_z, omega).log_q, highest); });
      top = double(vec<V>::largest(highest));
      log_z = splat<V>(top);
      z = mass();
    }
    log_z = splat<V>(top + log(z));
    const auto sums = sum_each<V, 3>(call.cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
      const Outcome<V> m = assistant.mix(outcome(i, span), log_z, omega);
      part[0] = part[0] + loss_of(call.divergence, m, a, b);
      part[1] = part[1] + slope_of(call.divergence, m, a, b);
      part[2] = part[2] + difference_(m);
    });
    if (g) {
      const V mean = splat<V>(sums.sum[1]), factor = splat<V>(coefficient);
      const auto bent = [&](const Outcome<V>& o) LIMBECK_INLINE {
        const Outcome<V> m = assistant.mix(o, log_z, omega);
        return omega * (slope_of(call.divergence, m, a, b) - m.q * mean);
      };
      const V total = splat<V>(sum_each<V, 1>(call.cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
                                 part[0] = part[0] + bent(outcome(i, span));
                               }).sum[0]);
      each<V>(call.cols, [&](Int i, auto span) LIMBECK_INLINE {
        const Outcome<V> o = outcome(i, span);
        V value = (bent(o) - o.q * total) * factor;
        if (hard.used) value = value + fma_(exp_(span.load(student.x + i, -INFINITY) - student_max - hard_log), hard_factor, hard_offset);
        span.store(g + i, value);
      });
    }
    return corrected_(sums.sum[0], loss_slope_(call.divergence, sums.sum[1]), sums.sum[2] - (1 - teacher.mass));
  }

  // Whether a list is the usual one: a column in every slot, none twice.
  bool is_plain(const int32_t* indices) const {
    const Int k = call.k;
    uint32_t largest = 0;
    for (Int j = 0; j < k; ++j) largest = std::max(largest, static_cast<uint32_t>(indices[j]));
    if (largest >= static_cast<uint64_t>(call.cols)) return false;
    uint64_t met = 0;
    uint64_t* seen = memory.seen;
    for (Int j = 0; j < k; ++j) {
      const uint32_t id = static_cast<uint32_t>(indices[j]);
      const uint64_t word = seen[id / 64];
      met |= word >> id % 64;
      seen[id / 64] = word | uint64_t(1) << id % 64;
    }
    // One by one: instructions that scatter are slower than that.
    for (Int j = 0; j < k; ++j) static_cast<volatile uint64_t*>(seen)[static_cast<uint32_t>(indices[j]) / 64] = 0;
    return (met & 1) == 0;
  }

  // The list of a sparse row: its ids, their probabilities (or weights) and the logarithms. Nothing of it depends on the student, so it is read in
  // steps among the walk over the row: memory is busy meanwhile.
  struct List {
    DivergenceRow& of;
    Int row;
    const int32_t* indices = of.call.indices.template as<int32_t>() + row * of.call.k;
    const float* values = of.call.values.template as<float>() + row * of.call.k;
    int steps = 0;
    bool plain = false;
    // How many entries there are, or -1 after refusing an id; whether all are probabilities.
    Int count = 0;
    bool defined = true;
    double log_mass = 0, top = -INFINITY, sum = 0;

    static void step(void* list) { static_cast<List*>(list)->step(); }
    void step() {
      switch (steps++) {
        case 0: return check();
        case 1: return collect();
        case 2: return of.call.target == Target::sparse_weights ? weigh() : exponentials();
        case 3: return of.call.target == Target::sparse_weights ? void() : normalise();
      }
    }
    void finish() {
      while (steps < 4) step();
    }

    void check() {
      plain = of.is_plain(indices);
      // The next row's list.
      const Int k = of.call.k;
      for (Int j = k; j < 2 * k; j += 16) {
        fetch(indices + j, 0);
        fetch(values + j, 0);
      }
    }

    // The ids, and their values as `p`.
    void collect() {
      auto& memory = of.memory;
      const Int k = of.call.k;
      const bool weights = of.call.target == Target::sparse_weights, grows = of.call.residual == Residual::label;
      memory.ids = plain && !grows ? indices : memory.own_ids;
      if (plain) {
        count = k;
        if (grows) std::copy_n(indices, k, memory.own_ids);
        for (Int j = 0; j < k; ++j) memory.p[j] = static_cast<double>(values[j]);
        return;
      }
      Int bad = -1;
      bool twice = false;
      for (Int j = 0; j < k; ++j) {
        const int32_t id = indices[j];
        if (static_cast<uint32_t>(id) >= static_cast<uint64_t>(of.call.cols)) {
          if (id == -1) continue;
          bad = j;
          break;
        }
        uint64_t& word = memory.seen[id / 64];
        const uint64_t bit = uint64_t(1) << (id % 64), before = word;
        if (before & bit) {
          twice = !weights;
          if (twice) {
            bad = j;
            break;
          }
          // Draws of one id add up.
          Int same = 0;
          while (memory.own_ids[same] != id) ++same;
          memory.p[same] += static_cast<double>(values[j]);
          continue;
        }
        word = before | bit;
        memory.own_ids[count] = id;
        memory.p[count++] = static_cast<double>(values[j]);
      }
      for (Int j = 0; j < count; ++j) memory.seen[memory.own_ids[j] / 64] = 0;
      if (bad < 0) return;
      if (twice) of.faults.refuse(row, "indices of a row must differ: row %lld holds %d twice", (long long)row, indices[bad]);
      else of.faults.refuse(row, "indices must be in [-1, %lld): slot %lld of row %lld holds %d", (long long)of.call.cols, (long long)bad, (long long)row, indices[bad]);
      count = -1;
    }

    void weigh() {
      auto& memory = of.memory;
      for (Int j = 0; j < of.call.k; ++j)
        if (indices[j] != -1 && !(values[j] >= 0 && values[j] < INFINITY)) defined = false;
      for (Int j = 0; j < count; ++j) memory.log_p[j] = log(memory.p[j]);
      log_mass = log(exact_sum_row(memory.p, count));
    }

    void exponentials() {
      auto& memory = of.memory;
      const double scale = of.call.renormalizes() ? of.call.log_prob_scale : 1;
      for (Int j = 0; j < count; ++j) memory.log_p[j] = memory.p[j] * scale;
      top = exact_largest(memory.log_p, count);
      const double base = top > -INFINITY ? top : 0;
      for (Int j = 0; j < count; ++j) memory.p[j] = exact_exp(memory.log_p[j] - base);
      sum = exact_sum_row(memory.p, count);
    }

    // To the mass that the residual gives them.
    void normalise() {
      auto& memory = of.memory;
      if (!(sum < INFINITY)) defined = false;  // NaN or +inf among the logarithms
      log_mass = top > -INFINITY ? top + log(sum) : -INFINITY;
      const bool whole = of.call.renormalizes() && log_mass > -INFINITY;
      const double to_mass = whole ? 1 / sum : exp(top > -INFINITY ? top : 0);
      for (Int j = 0; j < count; ++j) {
        memory.p[j] *= to_mass;
        if (whole) memory.log_p[j] -= log_mass;
      }
    }
  };

  // ln of the mass outside the list: given, or what is missing to 1. False after refusing probabilities that sum to more.
  bool tail_of(Int r, Int count, double log_mass, bool& defined, double& log_tail) const {
    if (call.tail_log_mass) {
      log_tail = static_cast<double>(call.tail_log_mass.as<float>()[r]);
      if (!(log_tail < INFINITY)) defined = false;
    } else if (defined && exp(log_mass) > 1 + 1e-3) {
      faults.refuse(r, "the probabilities of a row must sum to at most 1: row %lld sums to %g", (long long)r, exp(log_mass));
      return false;
    } else {
      // With every column listed, what is missing to 1 is rounding: there is nowhere for it to be.
      log_tail = log_mass < 0 && count < call.cols ? log(-expm1(log_mass)) : -INFINITY;
    }
    return true;
  }

  // The tail goes to the row's label, which joins the list where it is not on it. -1 after refusing a row without a label.
  Int give_tail_to_label(Int r, Int count, double& log_tail) const {
    const int32_t label = call.labels.as<int32_t>()[r];
    if (label < 0 || label >= call.cols) {
      faults.refuse(r, "residual label must have a label in every row: label %lld is %d", (long long)r, label);
      return -1;
    }
    Int at = 0;
    while (at < count && memory.ids[at] != label) ++at;
    if (at == count) {
      memory.own_ids[at] = label;
      memory.log_p[at] = log_tail;
      ++count;
    } else if (log_tail > -INFINITY) {
      const double high = memory.log_p[at] > log_tail ? memory.log_p[at] : log_tail, low = memory.log_p[at] > log_tail ? log_tail : memory.log_p[at];
      memory.log_p[at] = high + log1p(exp(low - high));
    }
    memory.p[at] = exp(memory.log_p[at]);
    log_tail = -INFINITY;
    return count;
  }

  // Every column off the list has the same probability. Where the gradient is known outcome by outcome, the row needs no more than the sum of its
  // logits beside that of its exponentials. NAN where that would not do: digits are missing, or it is no ordinary row.
  double spread_evenly(const BlockedRow& row, Int count, double log_tail, double all, const S* x, S* e, S* g, double temperature, double coefficient) {
    if (!(row.total - row.total == 0) || !(row.sum > 0)) return NAN;
    const double log_sum = row.sum < 1.5 ? log(exact_scaled_sum(x, row.max, 1 / temperature, call.cols)) : log(row.sum);
    const double off = static_cast<double>(call.cols - count), share = off > 0 ? exp(log_tail) / off : 0, log_share = share > 0 ? log_tail - log(off) : 0;
    // Σ of (z − max)/T over the columns off the list.
    double centred = (row.total - row.max * static_cast<double>(call.cols)) / temperature;
    for (Int j = 0; j < count; ++j) {
      memory.centred[j] = (static_cast<double>(x[memory.ids[j]]) - row.max) / temperature;
      memory.q[j] = memory.p[j] > 0 ? memory.p[j] * (log_sum - memory.centred[j]) : 0;
    }
    centred -= exact_sum_row(memory.centred, count);
    const double about = exact_sum_row(memory.q, count) + share * (off * log_sum - centred);
    for (Int j = 0; j < count; ++j) memory.q[j] = memory.p[j] > 0 ? memory.p[j] * memory.log_p[j] : 0;
    const double own = exact_sum_row(memory.q, count) + share * off * log_share;
    const double loss = Formula<V>::adds_mass ? about + own : about;
    // ln Σ is good to a share of 1, the logits' sum to one of itself; the rest is exact.
    if (!FarLoss{loss, all + share * fabs(centred)}.holds(call.cols < 256)) return NAN;
    if (g) {
      const double factor = coefficient * all / row.sum;
      for (Int begin = 0; begin < call.cols; begin += kRowBlock)
        if (!(fabs(factor * memory.student_blocks[begin / kRowBlock].scale) > kFaintFactor)) return NAN;
      for (Int j = 0; j < count; ++j) {
        const double scale = memory.student_blocks[memory.ids[j] / kRowBlock].scale;
        S& term = e[memory.ids[j]];
        term = static_cast<S>(static_cast<double>(term) + coefficient * (share - memory.p[j]) / (factor * scale));
      }
      put_terms(g, {e}, -coefficient * share, [&](Int begin, S* on) { on[0] = static_cast<S>(factor * memory.student_blocks[begin / kRowBlock].scale); });
    }
    return loss;
  }

  // Every column is an outcome: the teacher's row is written out, its logarithms relative to about the largest.
  double spread_out(Int count, double log_tail, double all, const S* x, S* e, S* g, double temperature, double coefficient, HardTerm& hard) const {
    const Range<S> range = range_of<V>(x, call.cols);
    const double log_share = count < call.cols ? log_tail - log(static_cast<double>(call.cols - count)) : -INFINITY;
    double base = log_share;
    for (Int j = 0; j < count; ++j) base = memory.log_p[j] > base ? memory.log_p[j] : base;
    if (base == -INFINITY) base = 0;
    const S share = static_cast<S>((log_share - base) * temperature);
    // What is written for the columns off the list is exact: its rounding goes into the base.
    if (share > -INFINITY) base = log_share - static_cast<double>(share) / temperature;
    fill_row<V>(memory.teacher_log, call.cols, share);
    fill_row<V>(memory.teacher_exp, call.cols, exp(log_share));
    for (Int j = 0; j < count; ++j) {
      const Int id = memory.ids[j];
      memory.centred[j] = static_cast<double>(x[id]) - static_cast<double>(range.max);
      memory.teacher_log[id] = static_cast<S>((memory.log_p[j] - base) * temperature);
      if constexpr (kWrittenExactly) all += exp(written(j, base, temperature)) - memory.p[j];
      memory.teacher_exp[id] = static_cast<S>(memory.p[j]);
    }
    double log_sum = 0;
    double loss = dense_against({memory.teacher_log, memory.teacher_exp, 0, 1, -base, all}, x, range, e, g, temperature, coefficient, hard, &log_sum);
    if constexpr (kWrittenExactly)
      // Here the rounding of the logarithms just written is an error of the loss.
      for (Int j = 0; j < count; ++j) {
        const double log_q = memory.centred[j] / temperature - log_sum;
        loss += listed_loss(log_q, memory.log_p[j]) - listed_loss(log_q, written(j, base, temperature));
      }
    return loss;
  }

  // Below it a gradient times its inverse may not be a number among the exponentials.
  static constexpr double kFaintFactor = 1e-25;
  static constexpr bool kWrittenExactly = Formula<V>::first_order && !kAssisted;
  double written(Int j, double base, double temperature) const { return static_cast<double>(memory.teacher_log[memory.ids[j]]) / temperature + base; }
  double listed_loss(double log_q, double log_p) const { return loss_at({exp(log_q), exp(log_p), log_q, log_p, log_q - log_p}); }

  // Σ p·ln(p/q) or −Σ p·ln q over the list.
  double listed_about(Int count, double inverse_temperature, double sum) const {
    for (Int j = 0; j < count; ++j) sum += memory.p[j] * ((Formula<double>::adds_mass ? memory.log_p[j] : 0) - memory.centred[j] * inverse_temperature);
    return sum;
  }

  double sparse(Int r, const S* x, S* e, S* g, double temperature, double coefficient, HardTerm& hard) {
    using D = Formula<double>;
    const bool on_list = call.residual == Residual::renormalize_both, uniform = call.residual == Residual::uniform;
    // On the list alone the other columns have no exponentials.
    const bool list_only = on_list && !hard.used;
    BlockedRow row;
    bool evenly = false;
    if constexpr (D::any_mass && lane<V>::width > 1 && !kAssisted) evenly = uniform && !hard.used;
    List list{*this, r};
    const Aside aside{List::step, &list};
    if (evenly) row = exp_blocks<V, true>(x, e, call.cols, temperature, exponential, memory.student_blocks, waiting, aside);
    else if (uniform) waiting.finish();
    else if (list_only) row = no_exponentials<V>(x, call.cols, waiting, aside);
    else row = exp_blocks<V>(x, e, call.cols, temperature, exponential, memory.student_blocks, waiting, aside);
    list.finish();
    const double log_mass = list.log_mass;
    bool defined = list.defined;
    Int count = list.count;
    if (count < 0) return 0;
    double log_tail = -INFINITY, all = call.renormalizes() ? 1 : exp(log_mass);
    if (call.renormalizes()) {
      if (log_mass == -INFINITY) return NAN;
    } else if (call.residual != Residual::truncate && call.residual != Residual::sampled) {
      if (!tail_of(r, count, log_mass, defined, log_tail)) return 0;
      if (!uniform || count < call.cols) all += exp(log_tail);
    }
    if (!defined) return NAN;
    if (call.residual == Residual::label && (count = give_tail_to_label(r, count, log_tail)) < 0) return 0;
    if (uniform) {
      if (evenly) {
        const double loss = spread_evenly(row, count, log_tail, all, x, e, g, temperature, coefficient);
        if (loss == loss) return loss;
      }
      return spread_out(count, log_tail, all, x, e, g, temperature, coefficient, hard);
    }
    double sum = row.sum;
    if (!(sum == sum)) return NAN;
    const S max = static_cast<S>(row.max);
    const int32_t* ids = memory.ids;
    const auto block_of = [&](Int i) LIMBECK_INLINE -> RowBlock& { return memory.student_blocks[static_cast<size_t>(i) / kRowBlock]; };
    const double inverse_temperature = 1 / temperature;
    for (Int j = 0; j < count; ++j) memory.centred[j] = static_cast<double>(x[ids[j]]);
    const double top = on_list ? exact_largest(memory.centred, count) : row.max;
    if (top == -INFINITY) return NAN;
    for (Int j = 0; j < count; ++j) memory.centred[j] -= top;
    if (on_list)
      for (Int j = 0; j < count; ++j) memory.q[j] = exact_exp(memory.centred[j] * inverse_temperature);
    else
      for (Int j = 0; j < count; ++j) memory.q[j] = static_cast<double>(e[ids[j]]) * block_of(ids[j]).scale;
    const double kept = exact_sum_row(memory.q, count);
    // Nothing is said of the other columns: they get the listed mass times q.
    const bool truncated = call.residual == Residual::truncate || call.residual == Residual::sampled, bucketed = !truncated && !on_list;
    Rest rest{0, 0};
    hard_beside(x, max, sum, temperature, hard);
    if (on_list) {
      sum = kept;
    } else if (bucketed) {
      // A loss that moves with the rest itself wants it summed, not as a difference.
      const double known = D::first_order ? 0 : sum;
      if (!difference_will_do(known, kept)) level<V>(e, call.cols, memory.student_blocks);
      rest = rest_of_row<V>(x, max, temperature, exponential, e, call.cols, count, [&](Int j) { return ids[j]; }, known, kept);
      sum = kept + (rest.log_scale == 0 ? rest.sum : rest.sum * exp(rest.log_scale));
    } else if (sum < 1.5 || (call.residual == Residual::truncate && !(fabs(listed_about(count, inverse_temperature, all * log(sum))) >= 0.05 * all))) {
      // Here an error of ln Σ is an error of the loss, and beside a small one it shows; elsewhere it cancels to first order.
      sum = exact_scaled_sum(x, static_cast<double>(max), inverse_temperature, call.cols);
    }
    const double log_sum = log(sum), inverse_sum = 1 / sum;
    // A loss that knows its gradient outcome by outcome takes the digits of q from the logarithms where they matter.
    if (on_list || (!D::needs_mean && !kAssisted))
      for (Int j = 0; j < count; ++j) memory.q[j] *= inverse_sum;
    else
      for (Int j = 0; j < count; ++j) memory.q[j] = exact_exp(memory.centred[j] * inverse_temperature - log_sum);

    [[maybe_unused]] double first_order = 0;
    double loss = on_list && D::adds_mass ? all - 1 : 0, factor = truncated ? coefficient * all / sum : 0, mean = 0;
    const auto outcome = [&](Int j) {
      const double log_q = memory.centred[j] * inverse_temperature - log_sum, log_p = memory.log_p[j];
      return Outcome<double>{memory.q[j], memory.p[j], log_q, log_p, log_q - log_p};
    };
    // What the divergence compares with the teacher: the student's outcome, or the assistant's.
    double log_z = 0, total = 0, omega = 1;
    const auto compared = [&](const Outcome<double>& o) {
      if constexpr (kAssisted) return Assistant<double>::of(call.assistant_alpha, call.assistant_lambda).mix(o, log_z, omega);
      else return o;
    };
    const auto bent = [&](const Outcome<double>& o) {
      const Outcome<double> m = compared(o);
      return omega * (slope_at(m) - m.q * mean);
    };
    const auto slope = [&](const Outcome<double>& o) {
      if constexpr (D::needs_mean) return bent(o) - o.q * total;
      else return slope_at(o) + (all - 1) * o.q;
    };
    if (!truncated) {
      const double log_q = bucketed ? rest.log_mass() - log_sum : -INFINITY;
      // On the list alone there is no outcome but its own: one of no probability on either side.
      const Outcome<double> o{exp(log_q), exp(log_tail), log_q, log_tail, bucketed ? log_q - log_tail : 0};
      if constexpr (kAssisted) {
        const auto mass = [&] {
          double z = bucketed ? compared(o).q : 0;
          for (Int j = 0; j < count; ++j) z += compared(outcome(j)).q;
          return z;
        };
        double z = mass(), top = 0;
        if (!(z > kFaintMixture)) {
          top = bucketed ? compared(o).log_q : -INFINITY;
          for (Int j = 0; j < count; ++j) top = max_(compared(outcome(j)).log_q, top);
          log_z = top;
          z = mass();
        }
        log_z = top + log(z);
      }
      const Outcome<double> bucket = compared(o);
      if (bucketed) loss = loss_at(bucket) + (D::adds_mass ? all - 1 : 0);
      if constexpr (D::needs_mean) {
        double sum_of_slopes = bucketed ? slope_at(bucket) : 0, drift = (bucketed ? difference_(bucket) : 0) - (1 - all);
        for (Int j = 0; j < count; ++j) {
          const Outcome<double> on = compared(outcome(j));
          sum_of_slopes += slope_at(on);
          drift += difference_(on);
        }
        mean = sum_of_slopes;
        first_order = mean * drift;
        if constexpr (kAssisted) {
          double sum_of_bent = bucketed ? bent(o) : 0;
          for (Int j = 0; j < count; ++j) sum_of_bent += bent(outcome(j));
          total = sum_of_bent;
        }
      }
      factor = rest.sum > 0 ? coefficient * slope(o) / rest.sum : 0;
    }
    // Plain loops over arrays, which the compiler turns into vectors: the losses take the place of the logarithms, the gradients that of q.
    for (Int j = 0; j < count; ++j) {
      const Outcome<double> o = outcome(j);
      // Without the other columns, p·ln(p/q) alone: what the formula adds to make the sum over all of them exact stays away.
      memory.log_p[j] = truncated && D::adds_mass ? (o.p > 0 ? -o.p * o.d : 0) : loss_at(compared(o));
      memory.q[j] = coefficient * slope(o);
    }
    loss += exact_sum_row(memory.log_p, count);
    if (g && list_only) {
      put_list(g, count);
    } else if (g) {
      // What is listed goes in among the exponentials, so that the row is written once and in order; a row with a hard term, or of hardly
      // any scale, gets it afterwards.
      bool all_go_in = true;
      double scale_before = NAN, from_gradient = 0;
      for (Int begin = 0; begin < call.cols; begin += kRowBlock) {
        RowBlock& block = block_of(begin);
        if (block.scale != scale_before) {
          scale_before = block.scale;
          const double to_gradient = factor * block.scale;
          const bool goes_in = !hard.used && fabs(to_gradient) > kFaintFactor;
          from_gradient = goes_in ? 1 / to_gradient : 0;
          all_go_in = all_go_in && goes_in;
        }
        block.from_gradient = from_gradient;
      }
      for (Int j = 0; j < count; ++j) {
        const Int id = ids[j];
        if (const double back = block_of(id).from_gradient; back != 0) e[id] = static_cast<S>(memory.q[j] * back);
      }
      if (hard.used) {
        V scale;
        const auto enter = [&](Int begin) LIMBECK_INLINE { scale = splat<V>(factor * block_of(begin).scale); };
        const V m = splat<V>(max), hard_log = splat<V>(hard.log_sum), hard_factor = splat<V>(hard.coefficient);
        const V hard_offset = splat<V>(-hard.coefficient * hard.uniform);
        put_row(g, enter, [&](Int i, auto span) LIMBECK_INLINE {
          const V q = exp_(span.load(x + i, -INFINITY) - m - hard_log);
          return fma_(span.load(e + i, 0), scale, fma_(q, hard_factor, hard_offset));
        });
      } else {
        put_terms(g, {e}, 0, [&](Int begin, S* on) { on[0] = static_cast<S>(factor * block_of(begin).scale); });
      }
      if (!all_go_in) waiting.finish();
      for (Int j = 0; j < count && !all_go_in; ++j) {
        if (block_of(ids[j]).from_gradient != 0) continue;
        const double beside = hard.used ? hard.coefficient * (exp(memory.centred[j] + (top - row.max) - hard.log_sum) - hard.uniform) : 0;
        g[ids[j]] = static_cast<S>(memory.q[j] + beside);
      }
    }
    if (g) label_gradient(g, hard);
    return D::first_order ? corrected_(loss, 1, first_order) : loss;
  }
};

template <class V, template <class> class Formula> void divergence_rows(const DivergenceCall& call, Faults& faults) {
  over_row_pieces(call.rows, call.cols, [&](Pieces& pieces) {
    DivergenceRow<V, Formula> row{call, faults, {}, {}};
    if (!row.memory.reserve(call, faults)) return;
    for (Int begin, end; pieces.next(begin, end);) {
      if constexpr (lane<V>::width > 1 && !is_assisted<Formula>)
        if (row.abreast()) {
          row.run_abreast(begin, end);
          continue;
        }
      for (Int r = begin; r < end && !faults.beyond(r); ++r) row.run(r);
    }
    row.waiting.finish();
    if (call.streams) stream_fence();
  }, kGrain / 4);
}

}  // namespace

void divergence(Context& ctx, In student, In teacher, In indices, In values, In tail_log_mass, In labels, In row_weights, In row_temperature,
                In anchor, In row_parameter, Out row_loss, Out loss, Out gradient, Int rows, Int cols, Int student_stride, Int teacher_stride,
                Int gradient_stride, Int k, Int target, Int divergence, Float parameter_a, Float parameter_b, Float interpolation, Int assisted,
                Float assistant_alpha, Float assistant_lambda, Int residual, Float log_prob_scale, Float temperature, Int temperature_squared,
                Float hard_weight, Float label_smoothing, Int ignore_index, Int unlabelled_index, Int reduction,
                Int denominator, Float denominator_value) {
  // Numbers of 64 bits have no lanes: one copy of their loops is enough.
  if constexpr (lane<F32>::width > 1)
    if (student.dtype == DType::float64)
      return base::divergence(ctx, student, teacher, indices, values, tail_log_mass, labels, row_weights, row_temperature, anchor, row_parameter, row_loss, loss, gradient,
                              rows, cols, student_stride, teacher_stride, gradient_stride, k, target, divergence, parameter_a, parameter_b, interpolation, assisted,
                              assistant_alpha, assistant_lambda, residual, log_prob_scale, temperature, temperature_squared, hard_weight, label_smoothing, ignore_index,
                              unlabelled_index, reduction, denominator, denominator_value);
  DivergenceCall call{student, teacher, indices, values, tail_log_mass, labels, row_weights, row_temperature, anchor, row_parameter, row_loss, gradient, rows, cols,
                      student_stride, teacher_stride, gradient_stride, k, Target(target), Divergence(divergence), parameter_a, parameter_b,
                      interpolation, assistant_alpha, assistant_lambda, Residual(residual),
                      log_prob_scale, temperature, temperature_squared != 0, hard_weight, label_smoothing, ignore_index, unlabelled_index, 1};
  double over = 1;
  if (Reduction(reduction) == Reduction::mean) {
    double counted = 0;
    for (Int r = 0; r < rows; ++r)
      if (!labels || labels.as<int32_t>()[r] != ignore_index)
        counted += Denominator(denominator) == Denominator::weights && row_weights ? static_cast<double>(row_weights.as<float>()[r]) : 1;
    over = Denominator(denominator) == Denominator::number ? denominator_value : counted;
    call.gradient_scale = over == 0 ? 0 : 1 / over;
  }
  call.streams = gradient && !is_half(gradient.dtype) && gradient.data != student.data && static_cast<size_t>(rows) * static_cast<size_t>(cols) * sizeof(float) > last_cache() / 4;
  Faults faults;
  by_dtype_here(student.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    if (assisted) divergence_rows<V, limbeck::assisted>(call, faults);
    else switch (Divergence(divergence)) {
#define LIMBECK_CASE(name) \
  case Divergence::name: divergence_rows<V, limbeck::name>(call, faults); break;
      LIMBECK_DIVERGENCES(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    if (Reduction(reduction) == Reduction::none || !faults.report(ctx)) return;
    double sum = 0;
    for (Int r = 0; r < rows; ++r) sum += static_cast<double>(row_loss.as<S>()[r]);
    loss.as<S>()[0] = static_cast<S>(over == 0 ? 0 : sum / over);
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
