// The row schedules of every divergence on CUDA: a warp, a block or a cluster of blocks per row, dense or sparse target, loss and gradient
// in one launch. A block keeps its run of the row in shared memory, in the type it came in: each logit is read once.
#include "core/codes.h"
#include "cuda/row_sum.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"
#include "ops/divergence/assistant.h"

// The build compiles this file in slices, side by side (cuda/sources.cmake): a slice holds the row kernels of every LIMBECK_SLICES-th divergence.
#ifndef LIMBECK_SLICES
#define LIMBECK_SLICES 1
#define LIMBECK_SLICE 0
#endif

namespace limbeck::cuda {
namespace {

// Columns whose membership in a sparse target is held in shared memory at a time, one bit each.
constexpr uint32_t kWindow = 262144;
// A column of a row: there are fewer than 2^31, and one register holds it. An id of -1, an empty place of a list, is a column past every end.
using Column = uint32_t;
constexpr Column kNoColumn = Column(-1);
}  // namespace

// Named: slices hand it to each other.
struct DivergenceRows {
  AnyIn student, teacher;
  const int32_t* indices;
  const float *values, *tail_log_mass;
  const int32_t* labels;
  const float *row_weights, *row_temperature;
  AnyIn anchor;
  const float* row_parameter;
  float* row_loss;
  AnyOut gradient;
  int64_t rows, cols, student_stride, teacher_stride, gradient_stride, k;
  Target target;
  Residual residual;
  Divergence divergence;
  double parameter_a, parameter_b, interpolation, assistant_alpha, assistant_lambda;
  double log_prob_scale, temperature, hard_weight, label_smoothing;
  int64_t ignore_index, unlabelled_index;
  const double* scale;  // 1/denominator; absent: 1
  int64_t segment;      // columns of a run
  int parts;            // blocks that share it
  int student_floats;   // shared memory of a staged run, as floats; 0: rows are read from global memory each time
  int teacher_floats;
  int list_floats;      // shared memory of a row's ids, and of its values; 0: they are read from global memory each time
  int group_bytes;      // shared memory of one group
  bool temperature_squared;
};

namespace {

using Rows = DivergenceRows;

// Which divergence, and its parameters in one row.
struct Parameters {
  Divergence divergence;
  double a, b;
  LIMBECK_DEVICE static Parameters of(const Rows& rows, int64_t row) {
    return {rows.divergence, rows.row_parameter != nullptr ? double(ld_warp(rows.row_parameter, row)) : rows.parameter_a, rows.parameter_b};
  }
};

// A divergence for outcomes in float and in double; assisted: any of them.
template <template <class> class F> struct Formula {
  static constexpr bool assisted = is_assisted<F>;
  static constexpr bool needs_mean = F<float>::needs_mean;
  // A formula that needs the row's sum asks of the logarithms only whether they are -inf; the assistant computes with them.
  static constexpr bool needs_logs = assisted || (F<float>::needs_logs && !needs_mean);
  static constexpr bool first_order = F<float>::first_order, any_mass = F<float>::any_mass, adds_mass = F<float>::adds_mass;
  static constexpr bool centred_gradient = F<float>::centred_gradient;
  static constexpr float gap_scale = [] {
    if constexpr (requires { F<float>::gap_scale; }) return F<float>::gap_scale;
    else return 0.0f;
  }();
  template <class V> LIMBECK_DEVICE static V loss(const Outcome<V>& o, const Parameters& of) {
    if constexpr (assisted) return loss_of(of.divergence, o, splat<V>(of.a), splat<V>(of.b));
    else return F<V>::loss(o, splat<V>(of.a), splat<V>(of.b));
  }
  template <class V> LIMBECK_DEVICE static V gradient(const Outcome<V>& o, const Parameters& of) {
    if constexpr (assisted) return slope_of(of.divergence, o, splat<V>(of.a), splat<V>(of.b));
    else return F<V>::gradient(o, splat<V>(of.a), splat<V>(of.b));
  }
  LIMBECK_DEVICE static float tie_loss(const Outcome<float>& o, float drift) { return F<float>::tie_loss(o, drift); }
};

// What the labels, weights and temperatures say about one row; the same in all threads of the group.
struct Head {
  bool zero = false, poison = false;  // exactly 0 with nothing read; NaN
  bool soft = true, hard = false;     // which terms are evaluated
  int64_t label = -1;
  double weight = 1, temperature = 1;
  float soft_coefficient = 0, hard_coefficient = 0;  // of ∂D/∂(z/T) and ∂CE/∂z in the gradient
};

LIMBECK_DEVICE Head head_of(const Rows& a, int64_t row, double scale) {
  Head h;
  h.soft = a.hard_weight < 1;
  h.hard = a.hard_weight > 0;
  if (a.labels != nullptr) {
    h.label = ld_warp(a.labels, row);
    if (h.label == a.ignore_index) h.zero = true;
    else if (h.label == a.unlabelled_index) h.hard = false;
    else if (h.label < 0 || h.label >= a.cols) h.poison = true;
  }
  if (a.row_weights != nullptr && !h.zero) {
    h.weight = ld_warp(a.row_weights, row);
    if (h.weight == 0) h.zero = true;
  }
  h.temperature = a.temperature;
  if (a.row_temperature != nullptr && !h.zero) {
    h.temperature = ld_warp(a.row_temperature, row);
    if (!(h.temperature > 0 && h.temperature < INFINITY)) h.poison = true;
  }
  if ((!h.soft && !h.hard) || a.cols == 0) h.zero = true;
  const double factor = a.temperature_squared ? h.temperature : 1 / h.temperature;
  h.soft_coefficient = float(h.weight * (1 - a.hard_weight) * factor * scale);
  h.hard_coefficient = float(h.weight * a.hard_weight * scale);
  return h;
}

template <class Group> LIMBECK_DEVICE void constant_row(const Group& group, const Rows& a, int64_t row, const Run& run, float value) {
  if (a.gradient) fill_row(group, offset(a.gradient, row * a.gradient_stride + run.begin), run.end - run.begin, value);
  if (group.leader()) st(a.row_loss, row, value);
}

// Cross-entropy against a label, with smoothing, at temperature 1.
struct HardTerm {
  bool on = false;
  Column label = kNoColumn;
  float max = 0, inverse_sum = 0, coefficient = 0, share = 0, peak = 0;  // target: share everywhere, + peak at the label
  float label_logit = 0;
  double log_sum = 0;

  LIMBECK_DEVICE float gradient(float x, Column column) const {
    const float q = exp_of_(x - max, 1.0f) * inverse_sum;
    return coefficient * (q - (column == label ? share + peak : share));
  }
  // `centred` = Σ (x − max), needed only where the label is smoothed.
  LIMBECK_DEVICE double loss(double smoothing, double centred, int64_t cols) const {
    const double miss = log_sum - (double(label_logit) - double(max));
    if (smoothing == 0) return miss;
    return mul0_(1 - smoothing, miss) + smoothing * (log_sum - centred / double(cols));
  }
};

LIMBECK_DEVICE HardTerm hard_term(const Rows& a, const Head& head, const RowSum& sum, float label_logit) {
  HardTerm t;
  t.on = head.hard;
  if (!t.on) return t;
  t.label = Column(head.label);
  t.max = sum.max;
  t.inverse_sum = 1.0f / sum.sum();
  t.log_sum = sum.log_sum();
  t.coefficient = head.hard_coefficient;
  t.share = float(a.label_smoothing / double(a.cols));
  t.peak = float(1 - a.label_smoothing);
  t.label_logit = label_logit;
  return t;
}

LIMBECK_DEVICE double row_loss_of(const Rows& a, const Head& head, double soft, double hard) {
  const double scale = a.temperature_squared ? head.temperature * head.temperature : 1.0;
  double loss = 0;
  if (head.soft) loss += (1 - a.hard_weight) * scale * soft;
  if (head.hard) loss += a.hard_weight * hard;
  return head.weight * loss;
}

LIMBECK_DEVICE float clamp_finite(float x) { return max_(min_(x, 1e37f), -1e37f); }

// How the teacher's numbers become probabilities at the row's temperature.
enum class TeacherKind { logits, log_probs, probs, probs_to_a_power };

struct Student {
  float max = 0, inverse_sum = 0, log_sum = 0;
};

struct Teacher {
  TeacherKind kind = TeacherKind::logits;
  float max = 0, inverse_sum = 0, log_sum = 0;
  float most = 1;               // the largest probability, where they are raised to a power
  float log_ratio = 0;          // ln(student's sum / teacher's sum)
  float at_peak = 0;            // the logit where the student is largest
};

template <class D> LIMBECK_DEVICE Outcome<float> outcome(float x, float t, const Student& s, const Teacher& p, const Inverse& inverse) {
  Outcome<float> o{};
  const float a = x - s.max;
  const bool exact = D::any_mass && (p.kind == TeacherKind::log_probs || p.kind == TeacherKind::probs);
  if constexpr (D::gap_scale == 0) o.q = exp_of_(a, inverse.hi) * s.inverse_sum;
  o.log_q = D::needs_logs || exact ? log_softmax_(x, s.max, inverse.hi, inverse.lo, s.log_sum) : a;
  if (!exact) {
    const float b = t - p.max;
    float difference = a - b;
    if constexpr (D::first_order) difference += lost_(x, s.max, a) - lost_(t, p.max, b);
    if constexpr (D::gap_scale == 0) o.p = exp_of_(b, inverse.hi) * p.inverse_sum;
    if constexpr (D::needs_logs) o.log_p = log_softmax_(t, p.max, inverse.hi, inverse.lo, p.log_sum);
    else o.log_p = b;
    o.d = fma_(difference, inverse.hi, -p.log_ratio);
    if constexpr (D::centred_gradient) o.centred = (a - (t - p.at_peak)) * inverse.hi;
    if constexpr (D::gap_scale != 0) {
      const Gap<float> gap = gap_(o, D::gap_scale);
      const float larger = exp_of_(gap.above ? a : b, inverse.hi) * (gap.above ? s.inverse_sum : p.inverse_sum);
      const float smaller = larger * (D::gap_scale == 1 ? gap.small : gap.small * gap.small);
      o.q = gap.above ? larger : smaller;
      o.p = gap.above ? smaller : larger;
    }
  } else {
    o.p = p.kind == TeacherKind::probs ? t : exp_(t);
    o.log_p = p.kind == TeacherKind::probs ? log_(t) : t;
    o.d = o.log_q - o.log_p;
    if constexpr (D::centred_gradient) o.centred = o.d;
  }
  return o;
}

template <class D, class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(256) divergence_dense(Rows a) {
  SHARED(double, scratch, kClusterScratch);
  SHARED_DYN(float, memory);
  Group group(scratch, a.parts);
  const bool staged = a.student_floats > 0;
  const Run run = group.run(a.cols, a.segment);
  const Column begin = Column(run.begin), end = Column(run.end), cols = Column(a.cols), step = Column(group.size()) * 4;
  const int own_cols = int(end - begin);
  const Shared<float> own = memory.slice<float>(group.slot() * a.group_bytes, a.group_bytes / 4);
  const StagedRow student_row{own.slice<float>(0, a.student_floats), a.student.dtype};
  const StagedRow teacher_row{own.slice<float>(a.student_floats * 4, a.teacher_floats), a.teacher.dtype};
  const double scale = a.scale != nullptr ? ld_warp(a.scale, 0) : 1.0;

  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const Head head = head_of(a, row, scale);
    if (head.zero || head.poison) {
      constant_row(group, a, row, run, head.zero ? 0.0f : NAN);
      continue;
    }
    const AnyIn student = offset(a.student, row * a.student_stride), teacher = offset(a.teacher, row * a.teacher_stride);
    const AnyOut gradient = offset(a.gradient, row * a.gradient_stride);
    const bool student_aligned = aligned4(student), teacher_aligned = aligned4(teacher), gradient_aligned = aligned4(gradient);
    const Inverse inverse = Inverse::of(head.temperature);
    const bool soft = head.soft, tempered = head.temperature != 1, interpolated = a.target == Target::interpolated;
    const Parameters formula = Parameters::of(a, row);
    // Probabilities that are softened, or whose divergence knows no mass but 1, are normalised.
    const bool normalised = tempered || !D::any_mass;
    // The label's logit before the gradient may take its place.
    float label_logit = 0;
    if (head.hard && group.leader()) label_logit = ld(student, head.label);

    Teacher p;
    if (a.target == Target::log_probs && !normalised) p.kind = TeacherKind::log_probs;
    if (a.target == Target::probs) p.kind = normalised ? TeacherKind::probs_to_a_power : TeacherKind::probs;
    const bool exact = D::any_mass && (p.kind == TeacherKind::log_probs || p.kind == TeacherKind::probs);

    const float absent = a.target == Target::probs ? 0.0f : -INFINITY;
    if (staged) {
      group.sync();
      stage(group, offset(student, begin), own_cols, student_row, -INFINITY);
      if (soft) stage(group, offset(teacher, begin), own_cols, teacher_row, absent);
      group.sync();
    }
    auto load_student = [&](Column c, float (&x)[4]) {
      if (staged) load_staged(student_row, int(c - begin), x);
      else load_chunk(student, c, a.cols, student_aligned, -INFINITY, x);
    };
    auto load_given = [&](Column c, float (&t)[4]) {
      if (staged) load_staged(teacher_row, int(c - begin), t);
      else load_chunk(teacher, c, a.cols, teacher_aligned, absent, t);
    };
    const AnyIn anchor = offset(a.anchor, row * a.student_stride);
    const bool anchor_aligned = aligned4(anchor);
    auto load_anchor = [&](Column c, float (&y)[4]) { load_chunk(anchor, c, a.cols, anchor_aligned, -INFINITY, y); };
    Interpolation<float> between = Interpolation<float>::of(a.interpolation);
    float tops[2] = {-INFINITY, -INFINITY}, top = 0;  // of anchor and teacher, and of what lies between them
    auto load_teacher = [&](Column c, float (&t)[4]) {
      load_given(c, t);
      if (interpolated) {
        float y[4];
        load_anchor(c, y);
        for (int i = 0; i < 4; i++) {
          const float hi = between(y[i] - tops[0], t[i] - tops[1]);
          t[i] = c + i < cols ? (hi - top) + between.lo : -INFINITY;
        }
      }
      if (p.kind == TeacherKind::probs_to_a_power)
        for (int i = 0; i < 4; i++) {
          // The quotient of a subnormal number has few digits left; its logarithm is large and bears the difference.
          // Near the largest the difference is exact, and a small T magnifies what its quotient would lose.
          const float ratio = t[i] / p.most;
          t[i] = ratio < 1e-30f ? log_(t[i]) - log_(p.most) : ratio > 0.5f ? log1p_((t[i] - p.most) / p.most) : log_(ratio);
        }
    };

    if (soft && interpolated) {
      float y[4], t[4], highest = -INFINITY;
      for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
        load_anchor(c, y);
        load_given(c, t);
        for (int i = 0; i < 4; i++) tops[0] = max_(y[i], tops[0]), tops[1] = max_(t[i], tops[1]);
      }
      group.merge(tops, Max{}, -INFINITY);
      for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
        load_teacher(c, t);
        for (int i = 0; i < 4; i++) highest = max_(t[i], highest);
      }
      top = merge_one(group, highest, Max{}, -INFINITY);
    }

    if (soft && p.kind == TeacherKind::probs_to_a_power) {
      float most = 0, t[4];
      for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
        load_given(c, t);
        // A NaN that is lost here comes back in its own logarithm.
        for (int i = 0; i < 4; i++) most = max_(t[i], most);
      }
      p.most = merge_one(group, most, Max{}, 0.0f);
    }

    // First pass: both normalisers, the one of the label's term, and the mass of a target that is used as given.
    RowSum sums[2], hard_sum;
    double mass = 0;
    [[maybe_unused]] float peak = -INFINITY, at_peak = 0;  // this thread's largest logit of the student, and the teacher's there
    for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
      float x[4], t[4];
      load_student(c, x);
      if (soft || !tempered) sums[0].push(x, inverse);
      if (head.hard && tempered) hard_sum.push(x, Inverse{1.0f, 0.0f});
      if (!soft) continue;
      load_teacher(c, t);
      if constexpr (D::centred_gradient)
        for (int i = 0; i < 4; i++) {
          at_peak = x[i] > peak ? t[i] : at_peak;
          peak = max_(x[i], peak);
        }
      if (!exact) sums[1].push(t, inverse);
      if constexpr (D::any_mass)
        for (int i = 0; exact && i < 4; i++) {
          if (p.kind == TeacherKind::probs) {
            mass += t[i] < 0 ? double(NAN) : double(t[i]);
          } else {
            // Only probabilities that can be seen in the mass deserve double.
            const float e = exp_(t[i]);
            mass += e > 1e-5f ? exp_(double(t[i])) : double(e);
          }
        }
    }
    const Inverse both[2] = {inverse, inverse};
    merge_rows(group, sums, both);
    if (head.hard && tempered) merge_row(group, hard_sum, Inverse{1.0f, 0.0f});
    if (!tempered) hard_sum = sums[0];
    if (soft && exact) mass = merge_one(group, mass, Add{}, 0.0);

    bool valid = !head.hard || hard_sum.valid();
    if (soft) valid = valid && sums[0].valid() && (exact ? mass > 0 && mass < INFINITY : sums[1].valid());
    if (!valid) {
      constant_row(group, a, row, run, NAN);
      continue;
    }
    Student s;
    double excess = 0;
    if (soft) {
      s = Student{sums[0].max, 1.0f / sums[0].sum(), sums[0].log_sum()};
      if (exact) {
        excess = mass - 1;
      } else {
        p.max = sums[1].max;
        p.inverse_sum = 1.0f / sums[1].sum();
        p.log_sum = sums[1].log_sum();
        // Near 1 each logarithm keeps digits that the sums have rounded away; elsewhere the quotient loses less.
        const bool confident = sums[0].sum() < 1.5f && sums[1].sum() < 1.5f;
        p.log_ratio = confident ? sums[0].log_sum() - sums[1].log_sum() : log_(sums[0].sum() / sums[1].sum());
        if constexpr (D::centred_gradient) {
          p.at_peak = merge_one(group, peak == s.max ? at_peak : -INFINITY, Max{}, -INFINITY);
          // Where the teacher rules that column out, nothing is centred.
          if (p.at_peak == -INFINITY) p.at_peak = p.max;
        }
      }
    }
    const float excess_share = float(excess);
    const HardTerm hard = hard_term(a, head, hard_sum, label_logit);

    // What the divergence compares with the teacher: the student's outcome, or the assistant's.
    [[maybe_unused]] Assistant<float> assistant{};
    [[maybe_unused]] float log_z = 0, total = 0, omega = 1;
    auto compared = [&](const Outcome<float>& o) {
      if constexpr (D::assisted) return assistant.mix(o, log_z, omega);
      else return o;
    };
    auto over_row = [&](auto term, auto join, float empty) {
      float part = empty;
      for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
        float x[4], t[4];
        load_student(c, x);
        load_teacher(c, t);
        LIMBECK_UNROLL
        for (int i = 0; i < 4; i++)
          if (c + i < cols) part = join(part, float(term(outcome<D>(x[i], t[i], s, p, inverse))));
      }
      return merge_one(group, double(part), join, double(empty));
    };
    if constexpr (D::assisted) {
      if (soft) {
        assistant = Assistant<float>::of(a.assistant_alpha, a.assistant_lambda);
        auto mass = [&]() { return over_row([&](const Outcome<float>& o) { return compared(o).q; }, Add{}, 0.0f); };
        double z = mass();
        if (!(z > kFaintMixture)) {
          log_z = float(over_row([&](const Outcome<float>& o) { return compared(o).log_q; }, Max{}, -INFINITY));
          z = mass();
        }
        log_z += float(log_(z));
      }
    }

    float mean = 0;
    double soft_loss = 0;
    constexpr bool ties = D::first_order && !D::assisted;
    const bool summed = D::needs_mean && soft && (gradient || D::first_order);
    if constexpr (D::needs_mean) {
      if (summed) {
        float part = 0, part_loss = 0, drift = 0, decided = 0;
        for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
          float x[4], t[4], losses[4] = {0, 0, 0, 0};
          load_student(c, x);
          load_teacher(c, t);
          LIMBECK_UNROLL
          for (int i = 0; i < 4; i++) {
            if (D::assisted && c + i >= cols) continue;
            const Outcome<float> o = compared(outcome<D>(x[i], t[i], s, p, inverse));
            const float slope = D::gradient(o, formula);
            part += slope;
            losses[i] = D::loss(o, formula);
            if constexpr (D::first_order) drift += difference_(o);
            if constexpr (ties) decided += abs_(slope);
          }
          part_loss += (losses[0] + losses[1]) + (losses[2] + losses[3]);
        }
        double sums_of_row[ties ? 4 : 3] = {part, part_loss, drift};
        if constexpr (ties) sums_of_row[3] = decided;
        group.merge(sums_of_row, Add{}, 0.0);
        // An infinite loss has no gradient.
        mean = sums_of_row[1] < INFINITY ? float(sums_of_row[0]) : NAN;
        soft_loss = sums_of_row[1];
        if constexpr (D::first_order) soft_loss = corrected_(soft_loss, D::assisted ? loss_slope_(formula.divergence, sums_of_row[0]) : sums_of_row[0], sums_of_row[2]);
        if constexpr (ties) {
          // The ties' mass is what the slopes lack of ½.
          const double over = sums_of_row[2];
          if (abs_(over) * (0.5 - sums_of_row[3]) > 1e-9)
            soft_loss += over_row([&](const Outcome<float>& o) { return D::tie_loss(o, float(over)); }, Add{}, 0.0f);
        }
      }
    }

    if constexpr (D::assisted) {
      if (summed && gradient)
        total = float(over_row(
            [&](const Outcome<float>& o) {
              const Outcome<float> m = compared(o);
              return omega * (D::gradient(m, formula) - m.q * mean);
            },
            Add{}, 0.0f));
    }

    // Second pass: loss and gradient.
    float loss = 0, centred = 0;
    for (Column c = begin + Column(group.rank()) * 4; c < end; c += step) {
      float x[4], t[4] = {0, 0, 0, 0}, g[4] = {0, 0, 0, 0}, part[4] = {0, 0, 0, 0}, far[4] = {0, 0, 0, 0};
      load_student(c, x);
      if (soft) load_teacher(c, t);
      LIMBECK_UNROLL
      for (int i = 0; i < 4; i++) {
        if (D::assisted && c + i >= cols) continue;
        if (soft) {
          const Outcome<float> o = outcome<D>(x[i], t[i], s, p, inverse);
          if (!summed) part[i] = D::loss(o, formula);
          float slope;
          if constexpr (D::assisted) {
            const Outcome<float> m = compared(o);
            slope = omega * (D::gradient(m, formula) - m.q * mean) - o.q * total;
          } else if constexpr (D::needs_mean) slope = D::gradient(o, formula) - o.q * mean;
          else slope = D::gradient(o, formula);
          g[i] = head.soft_coefficient * (D::any_mass ? fma_(excess_share, o.q, slope) : slope);
        }
        if (hard.on) {
          g[i] += hard.gradient(x[i], c + i);
          far[i] = c + i < cols ? x[i] - hard.max : 0.0f;
        }
      }
      loss += (part[0] + part[1]) + (part[2] + part[3]);
      centred += (far[0] + far[1]) + (far[2] + far[3]);
      if (!gradient) continue;
      if (gradient_aligned || !staged) {
        store_chunk(gradient, c, a.cols, gradient_aligned, g);
      } else {
        // Nobody else reads these columns again: the gradient waits here to be written by neighbouring threads.
        stage_chunk(student_row, int(c - begin), g);
      }
    }
    double totals[2] = {loss, centred};
    group.merge(totals, Add{}, 0.0);
    if (group.leader())
      st(a.row_loss, row, float(row_loss_of(a, head, (summed ? soft_loss : totals[0]) + (D::adds_mass ? excess : 0), hard.on ? hard.loss(a.label_smoothing, totals[1], a.cols) : 0)));
    if (gradient && staged && !gradient_aligned) {
      group.sync();
      own_columns(group, 0, own_cols, [&](int c) { st(gradient, begin + c, staged_at(student_row, c)); });
    }
  }
  group.finish();
}

// What is known of a sparse row and wanted again at its list or at its end alone waits in shared memory: in every thread's registers it would
// not fit beside the walk. The leader writes the first six and reads them; the rest a block's first thread writes for all.
enum Aside {
  kWeight, kTemperature, kHardLogSum, kLabelLogit, kBucketLoss, kDrift,
  kTargetMass,                                // of the target as it is used
  kMassOff, kTailMass, kLogMassOff, kLogTailMass,  // both sides' mass off the list
  kSupportMax, kInverseTemperature, kLogSum,  // of the whole student row
  kScale, kLogShift,                          // ln p = scale·value − shift
  kCentre,                                    // ln(q/p) of the columns off the list where each is an outcome: what theirs is centred at
  kLogLabel,                                  // ln of the mass off the list, where the label gets it on top of its own
  kLogMixture, kBent,                         // of the assistant: ln of its sum, and Σ of what its slopes take off
  kAsides = 20,
};

// One outcome on the support, in double: there are few of them and their logarithms are inputs.
struct Support {
  Shared<double> known;
  Column label;   // gets the mass off the list; or none
  bool weights;   // p = value

  LIMBECK_DEVICE Outcome<double> outcome(Column id, float x, float value) const {
    Outcome<double> o{};
    o.log_q = (double(x) - known[kSupportMax]) * known[kInverseTemperature] - known[kLogSum];
    o.log_p = weights ? log_(double(value)) : known[kScale] * double(value) - known[kLogShift];
    const double log_label = id == label ? double(known[kLogLabel]) : -INFINITY;
    if (log_label > -INFINITY) {
      const double high = o.log_p > log_label ? o.log_p : log_label, low = o.log_p > log_label ? log_label : o.log_p;
      o.log_p = high + log1p_(exp_(low - high));
    }
    o.q = exp_(o.log_q);
    o.p = weights ? double(value) : exp_(o.log_p);
    o.d = o.log_q - o.log_p;
    o.centred = o.d - known[kCentre];
    return o;
  }
};

// One outcome off the list where the residual is shared equally: its teacher's probability is the same in all columns.
struct OffOutcome {
  float max = 0, log_q = 0, share = 0, log_p = 0, p = 0, log_ratio = 0;
  Inverse inverse;

  // q = e^{(x − max)/T + log_q}. Where the student rules out all of these columns there is no maximum to take off.
  LIMBECK_DEVICE static OffOutcome of(float max, const Inverse& inverse, double log_q, double log_p) {
    const bool none = max == -INFINITY;
    const double known = none ? 0 : log_q;
    return {none ? 0.0f : max, float(known), float(exp_(known)), float(log_p), float(exp_(log_p)), float(known - log_p), inverse};
  }
  template <class D> LIMBECK_DEVICE Outcome<float> outcome(float x) const {
    Outcome<float> o{};
    const float centred = x - max;
    float exact = centred;
    if constexpr (D::first_order) exact += lost_(x, max, centred);
    o.q = exp_of_(centred, inverse.hi) * share;
    o.log_q = fma_(centred, inverse.hi, fma_(clamp_finite(centred), inverse.lo, log_q));
    o.p = p;
    o.log_p = log_p;
    o.d = fma_(exact, inverse.hi, fma_(clamp_finite(exact), inverse.lo, log_ratio));
    o.centred = exact * inverse.hi;
    return o;
  }
};

// What the columns off the list are: one outcome together, each one of its own, or, with weights, none that the target speaks of.
enum class OffList { together, apart, unsaid };

template <class D, class Group, OffList off_list>
LIMBECK_KERNEL void LIMBECK_BOUNDS_OF(Group::most_threads, Group::blocks_beside) divergence_sparse(Rows a) {
  SHARED(double, scratch, kClusterScratch);
  SHARED(double, asides, kAsides * 4);
  SHARED_DYN(float, memory);
  Group group(scratch);
  const bool staged = a.student_floats > 0;
  const Run run = group.run(a.cols, a.segment);
  const Column begin = Column(run.begin), end = Column(run.end), cols = Column(a.cols), step = Column(group.size()) * 4;
  const int own_cols = int(end - begin);
  const Shared<float> own = memory.slice<float>(group.slot() * a.group_bytes, a.group_bytes / 4);
  const StagedRow student_row{own.slice<float>(0, a.student_floats), a.student.dtype};
  const Shared<int32_t> ids = own.slice<int32_t>(a.student_floats * 4, a.list_floats);
  const Shared<float> list_values = own.slice<float>((a.student_floats + a.list_floats) * 4, a.list_floats);
  const int list_end = a.student_floats + 2 * a.list_floats;
  const Shared<unsigned> member = own.slice<unsigned>(list_end * 4, a.group_bytes / 4 - list_end);
  const Shared<double> aside = asides.slice<double>(group.slot() * kAsides * 8, kAsides);
  const double scale = a.scale != nullptr ? ld_warp(a.scale, 0) : 1.0;

  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const Head head = head_of(a, row, scale);
    if (head.zero || head.poison) {
      constant_row(group, a, row, run, head.zero ? 0.0f : NAN);
      continue;
    }
    const AnyIn student = offset(a.student, row * a.student_stride);
    const AnyOut gradient = offset(a.gradient, row * a.gradient_stride);
    const bool student_aligned = aligned4(student), gradient_aligned = aligned4(gradient);
    const Inverse inverse = Inverse::of(head.temperature);
    const double inverse_temperature = 1 / head.temperature;
    const Parameters formula = Parameters::of(a, row);
    const int kept = head.soft ? int(a.k) : 0;
    const int64_t first_kept = row * a.k;
    float label_logit = 0;
    if (head.hard && group.leader()) label_logit = ld(student, head.label);

    auto id_at = [&](int j) -> Column { return Column(a.list_floats > 0 ? int32_t(ids[j]) : ld(a.indices, first_kept + j)); };
    auto value_at = [&](int j) -> float { return a.list_floats > 0 ? float(list_values[j]) : ld(a.values, first_kept + j); };
    auto load_student = [&](Column c, float (&x)[4]) {
      if (staged) load_staged(student_row, int(c - begin), x);
      else load_chunk(student, c, a.cols, student_aligned, -INFINITY, x);
    };
    auto logit = [&](Column c) -> float { return staged ? staged_at(student_row, int(c - begin)) : ld(student, c); };
    // The columns listed are looked after by the block whose run they lie in.
    auto mine = [&](Column id) { return id >= begin && id < end; };
    // Of weights, draws of one id add up at its first place; anything else may name an id once only.
    constexpr bool weights = off_list == OffList::unsaid, apart = off_list == OffList::apart;
    // The label takes what is off the list, and joins it where it is not on it.
    const bool to_label = off_list == OffList::together && a.residual == Residual::label && head.soft;
    if (to_label && (head.label < 0 || head.label >= a.cols)) {
      constant_row(group, a, row, run, NAN);
      continue;
    }
    const Column label = to_label ? Column(head.label) : kNoColumn;
    bool twice = false, label_listed = false;
    auto listed = [&](int j, Column id, float& value) {
      value = j < kept ? value_at(j) : -INFINITY;
      if constexpr (weights) {
        for (int other = 0; twice && other < kept; other++) {
          if (other == j || id_at(other) != id) continue;
          if (other < j) return false;
          value += value_at(other);
        }
      }
      return true;
    };
    // Bits of the ids in [window, window + kWindow). Says whether an id is out of range or appears twice where it may not.
    auto until_of = [&](Column window) { return end - window < kWindow ? end : window + kWindow; };
    auto mark = [&](Column window) {
      group.sync();
      const Column until = until_of(window);
      const int words = int((until - window + 31) / 32);
      for (int w = group.rank(); w < words; w += group.size()) member[w] = 0u;
      group.sync();
      bool bad = false;
      for (int j = group.rank(); j < kept; j += group.size()) {
        const Column id = id_at(j);
        bad = bad || (id >= cols && id != kNoColumn);
        label_listed = label_listed || id == label;
        if (id < window || id >= until) continue;
        const int bit = int(id - window);
        const unsigned mask = 1u << (bit & 31);
        const unsigned before = atomic_or(member, bit >> 5, mask);
        if (before & mask) (weights ? twice : bad) = true;
      }
      group.sync();
      if (to_label && group.rank() == 0 && label >= window && label < until) {
        const int bit = int(label - window);
        atomic_or(member, bit >> 5, 1u << (bit & 31));
      }
      if (to_label) group.sync();
      return bad;
    };
    auto members = [&](Column window, Column c) -> unsigned {
      const int bit = int(c - window);
      const unsigned word = member[bit >> 5];
      return (word >> (bit & 31)) & 15u;
    };

    // First pass: the sum over the columns off the support, never as a difference; and the label's normaliser over all columns.
    RowSumOf<double> off;
    RowSum hard_sum;
    bool bad = false;
    group.sync();
    if (staged) stage(group, offset(student, begin), own_cols, student_row, -INFINITY);
    if (a.list_floats > 0)
      for (int j = group.rank(); j < kept; j += group.size()) {
        ids[j] = ld(a.indices, first_kept + j);
        list_values[j] = ld(a.values, first_kept + j);
      }
    for (Column window = begin; window < end; window += kWindow) {
      bad = mark(window) || bad;
      const Column until = until_of(window);
      for (Column c = window + Column(group.rank()) * 4; c < until; c += step) {
        float x[4];
        load_student(c, x);
        if (head.hard) hard_sum.push(x, Inverse{1.0f, 0.0f});
        const unsigned in = members(window, c);
        for (int i = 0; i < 4; i++) x[i] = in >> i & 1u ? -INFINITY : x[i];
        if (head.soft && a.residual == Residual::truncate) off.push_exact(x, inverse_temperature);
        else if (head.soft) off.push(x, inverse);
      }
    }
    bad = group.any(bad);
    if (weights) twice = group.any(twice);
    if (to_label) label_listed = group.any(label_listed);
    merge_row(group, off, inverse);
    if (head.hard) merge_row(group, hard_sum, Inverse{1.0f, 0.0f});
    if (bad || (head.hard && !hard_sum.valid())) {
      constant_row(group, a, row, run, NAN);
      continue;
    }
    const HardTerm hard = hard_term(a, head, hard_sum, label_logit);
    if (group.leader()) {
      aside[kWeight] = head.weight;
      aside[kTemperature] = head.temperature;
      aside[kHardLogSum] = hard.log_sum;
      aside[kLabelLogit] = double(hard.label_logit);
    }

    // The support: its maxima, then its sums.
    const Support support{aside, label, weights};
    const bool renormalized = a.residual == Residual::renormalize || a.residual == Residual::renormalize_both, alone = a.residual == Residual::renormalize_both;
    const bool truncated = weights || a.residual == Residual::truncate, bucketed = !apart && !truncated && !alone;
    const int slots = kept + (to_label && !label_listed ? 1 : 0);
    auto id_of = [&](int j) -> Column { return j < kept ? id_at(j) : label; };
    OffOutcome single;  // of a column off the list where each is an outcome
    bool valid = true;
    if (head.soft) {
      float top[2] = {alone ? -INFINITY : off.max, -INFINITY};
      for (int j = group.rank(); j < slots; j += group.size()) {
        const Column id = id_of(j);
        if (!mine(id)) continue;
        top[0] = max_(logit(id), top[0]);
        if (j < kept) top[1] = max_(value_at(j), top[1]);
      }
      group.merge(top, Max{}, -INFINITY);
      const double value_scale = renormalized ? a.log_prob_scale : 1.0;
      double on[3] = {0, 0, 0};  // both sides' sums, and how many columns are listed
      for (int j = group.rank(); j < slots; j += group.size()) {
        const Column id = id_of(j);
        if (!mine(id)) continue;
        const float x = logit(id);
        float v;
        if (!listed(j, id, v)) continue;
        on[2] += j < kept ? 1 : 0;
        on[0] += x == -INFINITY ? 0.0 : exp_((double(x) - double(top[0])) * inverse_temperature);
        if (weights) on[1] += v >= 0 && v < INFINITY ? double(v) : double(NAN);
        else on[1] += v == -INFINITY ? 0.0 : exp_((double(v) - double(top[1])) * value_scale);
      }
      group.merge(on, Add{}, 0.0);
      const double off_sum = double(off.ties) + off.rest;
      const double off_shift = (double(off.max) - double(top[0])) * inverse_temperature;
      const double total = on[0] + (alone ? off_sum - off_sum : off_sum == 0 ? 0.0 : off_sum * exp_(off_shift));
      const double log_sum = log_(total), log_on = on[1] > 0 ? (weights ? 0.0 : value_scale * double(top[1])) + log_(on[1]) : on[1] == 0 ? -INFINITY : on[1];
      valid = total > 0 && total < INFINITY && on[1] == on[1] && on[1] < INFINITY;
      double log_shift = 0, centre = 0, mass = 1, target_mass = 1, log_q_off = -INFINITY, log_p_tail = -INFINITY;
      if (off_sum > 0 && !alone) log_q_off = off_shift + log_(off_sum) - log_sum;
      if (renormalized) {
        valid = valid && on[1] > 0;
        log_shift = log_on;
      } else {
        mass = target_mass = exp_(log_on);
        if (!truncated) {
          if (a.tail_log_mass != nullptr) log_p_tail = ld_warp(a.tail_log_mass, row);
          // With every column listed, what is missing to 1 is rounding: there is nowhere for it to be.
          else if (log_on < 0 && on[2] < double(a.cols)) log_p_tail = log_(-expm1_(log_on));
          valid = valid && log_p_tail < INFINITY && !(a.tail_log_mass == nullptr && mass > 1 + 1e-3);
          if (!apart || on[2] < double(a.cols)) target_mass = mass + exp_(log_p_tail);
        }
      }
      const double log_label = log_p_tail;
      if (to_label) log_p_tail = -INFINITY;
      if constexpr (apart) {
        const double log_q = log_q_off - log_(off_sum), log_p = log_p_tail - log_(double(a.cols) - on[2]);
        single = OffOutcome::of(off.max, inverse, log_q, log_p);
        // Without a student or a teacher there, nothing is left to centre.
        if (D::centred_gradient && abs_(log_q - log_p) < INFINITY) centre = log_q - log_p;
      }
      if (group.own_rank() == 0) {
        aside[kTargetMass] = target_mass;
        aside[kMassOff] = exp_(log_q_off);
        aside[kTailMass] = exp_(log_p_tail);
        aside[kLogMassOff] = log_q_off;
        aside[kLogTailMass] = log_p_tail;
        aside[kSupportMax] = top[0];
        aside[kInverseTemperature] = inverse_temperature;
        aside[kLogSum] = log_sum;
        aside[kScale] = value_scale;
        aside[kLogShift] = log_shift;
        aside[kCentre] = centre;
        aside[kLogLabel] = log_label;
      }
      group.sync();
    }
    if (!valid) {
      constant_row(group, a, row, run, NAN);
      continue;
    }
    // The columns off the support are one outcome; where the target is renormalized its probability is 0.
    auto bucket = [&]() -> Outcome<double> {
      const double log_q = aside[kLogMassOff], log_p = aside[kLogTailMass];
      return {aside[kMassOff], aside[kTailMass], log_q, log_p, log_q - log_p};
    };
    const double excess = D::any_mass && head.soft ? aside[kTargetMass] - 1 : 0;

    [[maybe_unused]] auto set_aside = [&](Aside what, double value) {
      group.sync();
      if (group.own_rank() == 0) aside[what] = value;
      group.sync();
    };
    // What the divergence compares with the teacher: the student's outcome, or the assistant's.
    [[maybe_unused]] double omega = 1;
    [[maybe_unused]] float omega_apart = 1;
    auto compared = [&](const auto& o) {
      using V = std::remove_cv_t<std::remove_reference_t<decltype(o.q)>>;
      if constexpr (!D::assisted) return o;
      else if constexpr (sizeof(V) == 8) return Assistant<double>::of(a.assistant_alpha, a.assistant_lambda).mix(o, aside[kLogMixture], omega);
      else return Assistant<float>::of(a.assistant_alpha, a.assistant_lambda).mix(o, float(double(aside[kLogMixture])), omega_apart);
    };
    // ∂D/∂ln q of an outcome, before what its sum over all outcomes takes off.
    [[maybe_unused]] double mean = 0;
    auto bent = [&](const auto& o) {
      const auto m = compared(o);
      const auto slope = D::gradient(m, formula) - m.q * decltype(o.q + o.q)(mean);
      if constexpr (sizeof(o.q) == 8) return omega * slope;
      else return omega_apart * slope;
    };
    // And with it.
    auto whole_slope = [&](const auto& o) {
      if constexpr (D::assisted) return bent(o) - o.q * decltype(o.q + o.q)(double(aside[kBent]));
      else return bent(o);
    };
    auto over_outcomes = [&](auto term, auto join, double empty) {
      double part = empty;
      for (int j = group.rank(); j < slots; j += group.size()) {
        const Column id = id_of(j);
        if (mine(id)) part = join(part, term(support.outcome(id, logit(id), j < kept ? value_at(j) : -INFINITY)));
      }
      if (bucketed && group.leader()) part = join(part, term(bucket()));
      if constexpr (apart) {
        for (Column window = begin; window < end; window += kWindow) {
          if (end - begin > kWindow) mark(window);
          const Column until = until_of(window);
          float terms = float(empty);
          for (Column c = window + Column(group.rank()) * 4; c < until; c += step) {
            float x[4];
            load_student(c, x);
            const unsigned in = members(window, c);
            LIMBECK_UNROLL
            for (int i = 0; i < 4; i++)
              if (c + i < cols && (in >> i & 1u) == 0) terms = join(terms, float(term(single.template outcome<D>(x[i]))));
          }
          part = join(part, double(terms));
        }
      }
      return merge_one(group, part, join, empty);
    };
    if constexpr (D::assisted) {
      if (head.soft) {
        auto mass = [&]() { return over_outcomes([&](const auto& o) { return compared(o).q; }, Add{}, 0.0); };
        set_aside(kLogMixture, 0.0);
        double z = mass(), log_z = 0;
        if (!(z > kFaintMixture)) {
          log_z = over_outcomes([&](const auto& o) { return compared(o).log_q; }, Max{}, -INFINITY);
          set_aside(kLogMixture, log_z);
          z = mass();
        }
        set_aside(kLogMixture, log_z + log_(z));
      }
    }
    if (group.leader()) aside[kBucketLoss] = head.soft && bucketed ? D::loss(compared(bucket()), formula) : 0.0;

    if constexpr (D::needs_mean) {
      if (head.soft && (gradient || D::first_order)) {
        double part[3] = {0, 0, 0};
        for (int j = group.rank(); j < slots; j += group.size()) {
          const Column id = id_of(j);
          if (!mine(id)) continue;
          const Outcome<double> o = compared(support.outcome(id, logit(id), j < kept ? value_at(j) : -INFINITY));
          part[0] += D::gradient(o, formula);
          part[1] += D::loss(o, formula);
          part[2] += difference_(o);
        }
        if (bucketed && group.leader()) {
          const Outcome<double> o = compared(bucket());
          part[0] += D::gradient(o, formula);
          part[1] += aside[kBucketLoss];
          part[2] += difference_(o);
        }
        if constexpr (apart) {
          for (Column window = begin; window < end; window += kWindow) {
            if (end - begin > kWindow) mark(window);
            const Column until = until_of(window);
            float slopes = 0, losses = 0, differences = 0;
            for (Column c = window + Column(group.rank()) * 4; c < until; c += step) {
              float x[4];
              load_student(c, x);
              const unsigned in = members(window, c);
              LIMBECK_UNROLL
              for (int i = 0; i < 4; i++) {
                if (c + i >= cols || (in >> i & 1u)) continue;
                const Outcome<float> o = compared(single.template outcome<D>(x[i]));
                slopes += D::gradient(o, formula);
                losses += D::loss(o, formula);
                if (D::first_order) differences += difference_(o);
              }
            }
            part[0] += slopes;
            part[1] += losses;
            part[2] += differences;
          }
        }
        if (group.leader()) part[2] -= 1 - aside[kTargetMass];
        group.merge(part, Add{}, 0.0);
        mean = part[1] < INFINITY ? part[0] : NAN;
        if (D::first_order && group.leader()) aside[kDrift] = part[2];
        if constexpr (D::assisted) set_aside(kBent, over_outcomes(bent, Add{}, 0.0));
      }
    }
    double off_factor = 0;
    if (head.soft) {
      const double mass_off = aside[kMassOff];
      if (bucketed) {
        if constexpr (D::needs_mean) off_factor = whole_slope(bucket());
        else off_factor = D::gradient(bucket(), formula);
        off_factor += excess * mass_off;
      } else if (truncated) {
        off_factor = aside[kTargetMass] * mass_off;
      } else if (alone) {
        off_factor = mean - mean;  // 0, or NaN with the rest of the row
      }
    }

    // Second pass: each column off the support takes its share of the bucket's gradient.
    const float off_inverse = off.sum() > 0 ? 1.0f / off.sum() : 0.0f, factor = head.soft_coefficient * float(off_factor);
    const float excess_share = float(excess);
    float centred = 0;
    double off_loss = 0;
    for (Column window = begin; window < end; window += kWindow) {
      if (end - begin > kWindow) mark(window);
      const Column until = until_of(window);
      float losses = 0;
      for (Column c = window + Column(group.rank()) * 4; c < until; c += step) {
        float x[4], g[4] = {0, 0, 0, 0}, far[4] = {0, 0, 0, 0};
        load_student(c, x);
        const unsigned in = members(window, c);
        LIMBECK_UNROLL
        for (int i = 0; i < 4; i++) {
          if (c + i >= cols) continue;
          if (hard.on) far[i] = x[i] - hard.max;
          if (in >> i & 1u) continue;
          if constexpr (apart) {
            if (head.soft) {
              const Outcome<float> o = single.template outcome<D>(x[i]);
              losses += D::loss(compared(o), formula);
              float slope;
              if constexpr (D::needs_mean) slope = whole_slope(o);
              else slope = D::gradient(o, formula);
              g[i] = head.soft_coefficient * fma_(excess_share, o.q, slope);
            }
          } else {
            // A factor of NaN, of an infinite loss, goes to the student's impossible columns too.
            if (head.soft) g[i] = (x[i] > -INFINITY ? exp_of_(x[i] - off.max, inverse.hi) * off_inverse : 0.0f) * factor;
          }
          if (hard.on) g[i] += hard.gradient(x[i], c + i);
        }
        centred += (far[0] + far[1]) + (far[2] + far[3]);
        if (!gradient) continue;
        if (gradient_aligned && in == 0) {
          store_chunk(gradient, c, a.cols, true, g);
        } else if (gradient_aligned || !staged) {
          for (int i = 0; i < 4; i++)
            if (c + i < cols && (in >> i & 1u) == 0) st(gradient, c + i, g[i]);
        } else {
          for (int i = 0; i < 4; i++)
            if (c + i < cols && (in >> i & 1u) == 0) stage_at(student_row, int(c + i - begin), g[i]);
        }
      }
      off_loss += losses;
    }
    // The support is written last: its logits are read here, and chunks of four were read across it until now.
    group.sync();
    const bool through = staged && !gradient_aligned;
    double on_loss = off_loss, q_on = 0;
    for (int j = group.rank(); j < slots; j += group.size()) {
      const Column id = id_of(j);
      if (!mine(id)) continue;
      float value;
      // The first place of an id alone reads its logit: the gradient may take its memory.
      if (!listed(j, id, value)) continue;
      const float x = logit(id);
      const Outcome<double> o = support.outcome(id, x, value);
      on_loss += D::loss(compared(o), formula);
      q_on += o.q;
      double slope;
      if constexpr (D::needs_mean) slope = whole_slope(o);
      else slope = D::gradient(o, formula);
      float g = head.soft_coefficient * float(slope + excess * o.q);
      if (hard.on) g += hard.gradient(x, id);
      if (!gradient) continue;
      if (through) stage_at(student_row, int(id - begin), g);
      else st(gradient, id, g);
    }
    double totals[3] = {on_loss, q_on, centred};
    group.merge(totals, Add{}, 0.0);
    if (group.leader()) {
      Head known = head;
      HardTerm term = hard;
      known.weight = aside[kWeight];
      known.temperature = aside[kTemperature];
      term.log_sum = aside[kHardLogSum];
      term.label_logit = float(double(aside[kLabelLogit]));
      // Σ p·φ counts Σ q − Σ p over the outcomes: the difference of the masses makes up for it.
      const double outcomes_mass = truncated ? totals[1] : 1.0;
      const double sum = totals[0] + aside[kBucketLoss] + (D::adds_mass && head.soft ? aside[kTargetMass] - outcomes_mass : 0);
      const bool summed = D::first_order && head.soft;
      const double soft = summed ? corrected_(sum, D::assisted ? loss_slope_(formula.divergence, mean) : mean, aside[kDrift]) : sum;
      st(a.row_loss, row, float(row_loss_of(a, known, soft, term.on ? term.loss(a.label_smoothing, totals[2], a.cols) : 0)));
    }
    if (gradient && through) {
      group.sync();
      own_columns(group, 0, own_cols, [&](int c) { st(gradient, begin + c, staged_at(student_row, c)); });
    }
  }
  group.finish();
}

template <class D> void launch_sparse(Context& ctx, const Rows& rows, const ClusterPlan& plan) {
  const auto with = [&](auto cluster, auto warp) { launch(ctx, "divergence_sparse", plan.cluster ? cluster : warp, plan.launch, rows); };
  if constexpr (D::any_mass && !D::adds_mass) {
    if (rows.target == Target::sparse_weights)
      return with(divergence_sparse<D, ClusterGroup, OffList::unsaid>, divergence_sparse<D, WarpGroup, OffList::unsaid>);
  }
  if (rows.residual == Residual::uniform) with(divergence_sparse<D, ClusterGroup, OffList::apart>, divergence_sparse<D, WarpGroup, OffList::apart>);
  else with(divergence_sparse<D, ClusterGroup, OffList::together>, divergence_sparse<D, WarpGroup, OffList::together>);
}

template <class D, bool here> void launch_rows(Context& ctx, const Rows& rows, const ClusterPlan& plan, bool sparse) {
  if constexpr (here) {
    if (sparse) launch_sparse<D>(ctx, rows, plan);
    else launch(ctx, "divergence_dense", plan.cluster ? divergence_dense<D, ClusterGroup> : divergence_dense<D, WarpGroup>, plan.launch, rows);
  }
}

}  // namespace

template <int slice> void divergence_slice(Context& ctx, const DivergenceRows& rows, const ClusterPlan& plan, bool sparse, bool assisted);

template <> void divergence_slice<LIMBECK_SLICE>(Context& ctx, const DivergenceRows& rows, const ClusterPlan& plan, bool sparse, bool assisted) {
  if (assisted) return launch_rows<Formula<limbeck::assisted>, LIMBECK_SLICE == LIMBECK_SLICES - 1>(ctx, rows, plan, sparse);
  switch (rows.divergence) {
#define LIMBECK_CASE(name) \
  case Divergence::name: return launch_rows<Formula<limbeck::name>, int(Divergence::name) % LIMBECK_SLICES == LIMBECK_SLICE>(ctx, rows, plan, sparse);
    LIMBECK_DIVERGENCES(LIMBECK_CASE)
#undef LIMBECK_CASE
  }
}

#if LIMBECK_SLICE == 0
namespace {

// Entries of a sparse target that wait in shared memory.
constexpr int64_t kMostListed = 512;

template <int slice = 0> void launch_slice(Context& ctx, const Rows& rows, const ClusterPlan& plan, bool sparse, bool assisted) {
  const int wanted = assisted ? LIMBECK_SLICES - 1 : int(rows.divergence) % LIMBECK_SLICES;
  if (wanted == slice) return divergence_slice<slice>(ctx, rows, plan, sparse, assisted);
  if constexpr (slice + 1 < LIMBECK_SLICES) launch_slice<slice + 1>(ctx, rows, plan, sparse, assisted);
}

// 1/denominator: rows that count, or their weights. One block, so one fixed order.
LIMBECK_KERNEL void LIMBECK_BOUNDS(512) divergence_denominator(const int32_t* labels, const float* weights, int64_t rows, int64_t ignore_index, double number, double* scale) {
  SHARED(double, scratch, kScratch);
  BlockGroup group(scratch);
  double sum = 0;
  if (number == 0)
    for (int64_t r = thread_index(); r < rows; r += block_size())
      if (labels == nullptr || ld(labels, r) != ignore_index) sum += weights == nullptr ? 1.0 : double(ld(weights, r));
  sum = number == 0 ? merge_one(group, sum, Add{}, 0.0) : number;
  if (thread_index() == 0) st(scale, 0, sum == 0 ? 0.0 : 1 / sum);
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(512) divergence_total(const float* row_loss, int64_t rows, const double* scale, float* loss) {
  SHARED(double, scratch, kScratch);
  BlockGroup group(scratch);
  double sum = 0;
  for (int64_t r = thread_index(); r < rows; r += block_size()) sum += double(ld(row_loss, r));
  sum = merge_one(group, sum, Add{}, 0.0);
  if (thread_index() == 0) {
    const double factor = scale == nullptr ? 1.0 : ld(scale, 0);
    st(loss, 0, float(mul0_(factor, sum)));
  }
}

}  // namespace

void divergence(Context& ctx, In student, In teacher, In indices, In values, In tail_log_mass, In labels, In row_weights, In row_temperature,
                In anchor, In row_parameter, Out row_loss, Out loss, Out gradient, Int rows, Int cols, Int student_stride, Int teacher_stride,
                Int gradient_stride, Int k, Int target, Int divergence, Float parameter_a, Float parameter_b, Float interpolation, Int assisted,
                Float assistant_alpha, Float assistant_lambda, Int residual, Float log_prob_scale, Float temperature, Int temperature_squared,
                Float hard_weight, Float label_smoothing, Int ignore_index, Int unlabelled_index, Int reduction,
                Int denominator, Float denominator_value) {
  const bool mean = Reduction(reduction) == Reduction::mean, sparse = Target(target) == Target::sparse_log_probs || Target(target) == Target::sparse_weights;
  Rows a{};
  a.student = student, a.teacher = teacher;
  a.indices = indices.as<int32_t>(), a.values = values.as<float>(), a.tail_log_mass = tail_log_mass.as<float>();
  a.labels = labels.as<int32_t>(), a.row_weights = row_weights.as<float>(), a.row_temperature = row_temperature.as<float>();
  a.row_loss = row_loss.as<float>(), a.gradient = gradient;
  a.rows = rows, a.cols = cols, a.student_stride = student_stride, a.teacher_stride = teacher_stride, a.gradient_stride = gradient_stride, a.k = k;
  a.target = Target(target), a.residual = Residual(residual);
  a.anchor = anchor, a.row_parameter = row_parameter.as<float>();
  a.divergence = Divergence(divergence), a.parameter_a = parameter_a, a.parameter_b = parameter_b, a.interpolation = interpolation;
  a.assistant_alpha = assistant_alpha, a.assistant_lambda = assistant_lambda;
  a.log_prob_scale = log_prob_scale, a.temperature = temperature, a.hard_weight = hard_weight, a.label_smoothing = label_smoothing;
  a.ignore_index = ignore_index, a.unlabelled_index = unlabelled_index, a.temperature_squared = temperature_squared != 0;

  const Workspace scale(ctx, sizeof(double));
  if (!scale) return;
  if (mean) {
    a.scale = scale.as<double>();
    const bool weights = Denominator(denominator) == Denominator::weights && row_weights, number = Denominator(denominator) == Denominator::number;
    launch(ctx, "divergence_denominator", divergence_denominator, Launch{1, 512}, a.labels, weights ? a.row_weights : nullptr, rows, ignore_index,
           number ? denominator_value : 0.0, scale.as<double>());
  }

  const int64_t student_bytes = kDTypeBytes[int(student.dtype)], teacher_bytes = sparse || Target(target) == Target::none ? 0 : kDTypeBytes[int(teacher.dtype)];
  a.list_floats = sparse && k <= kMostListed ? int((k + 3) / 4 * 4) : 0;
  const auto sparse_bytes = [&](int64_t segment) { return sparse ? ((segment < int64_t(kWindow) ? segment : int64_t(kWindow)) + 127) / 128 * 16 + a.list_floats * 8 : int64_t(0); };
  ClusterPlan plan = plan_clusters(ctx, rows, cols, student_bytes + teacher_bytes, sparse_bytes);
  // Sparse targets keep one block to a run: their kernels have no registers left for the other launch.
  if (!sparse) share_runs(ctx, rows, plan);
  a.segment = plan.segment;
  a.parts = plan.parts;
  a.student_floats = plan.staged ? int(plan.segment * student_bytes / 4) : 0;
  a.teacher_floats = plan.staged ? int(plan.segment * teacher_bytes / 4) : 0;
  a.group_bytes = (a.student_floats + a.teacher_floats) * 4 + int(sparse_bytes(plan.segment));
  launch_slice(ctx, a, plan, sparse, assisted != 0);
  if (Reduction(reduction) != Reduction::none)
    launch(ctx, "divergence_total", divergence_total, Launch{1, 512}, a.row_loss, rows, a.scale, loss.as<float>());
}
#endif

}  // namespace limbeck::cuda
