#include "placement/tier_program.h"

#include "base/bytes.h"
#include "base/check.h"

#include <Highs.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace hypura::placement {
namespace {

constexpr double kGiBytes = static_cast<double>(kGiB);  // columns are in GiB: HiGHS likes numbers near one
constexpr double kMilliseconds = 1e3;                   // and times in milliseconds
constexpr double kCliffSlack = 1e-5;                    // of a share: keeps the solver's rounding above the cliff
constexpr double kGap = 1e-4;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Builds the programme column by column and row by row; positions are remembered here.
class Programme {
public:
    explicit Programme(const TierProblem& problem) : problem_(problem), last_(problem.tiers.size() - 1) {
        time_ = add_column(1, 0, kInfinity, false);
        add_item_columns();
        add_pool_columns();
        add_count_rows();
        add_pool_rows();
        add_capacity_rows();
        add_time_rows();
    }

    Result<TierAnswer> solve(double most_seconds) {
        model_.lp_.num_col_ = static_cast<HighsInt>(model_.lp_.col_cost_.size());
        model_.lp_.num_row_ = static_cast<HighsInt>(model_.lp_.row_lower_.size());
        HighsSparseMatrix& matrix = model_.lp_.a_matrix_;
        matrix.format_ = MatrixFormat::kRowwise;
        matrix.start_ = starts_;
        matrix.index_ = indices_;
        matrix.value_ = values_;
        matrix.num_col_ = model_.lp_.num_col_;
        matrix.num_row_ = model_.lp_.num_row_;
        Highs highs;
        highs.setOptionValue("output_flag", false);
        highs.setOptionValue("threads", 1);
        highs.setOptionValue("time_limit", most_seconds);
        highs.setOptionValue("mip_rel_gap", kGap);
        // A restart that presolve then solves trips an assertion of HiGHS 1.14 (ERGO-Code/HiGHS issue 2993).
        highs.setOptionValue("mip_allow_restart", false);
        highs.setOptionValue("presolve", "off");
        const bool ran = highs.passModel(model_) != HighsStatus::kError && highs.run() != HighsStatus::kError;
        if (!ran || !highs.getSolution().value_valid)
            return fail(ErrorCode::kInternal, "the placement programme has no solution ({})",
                        highs.modelStatusToString(highs.getModelStatus()));
        return read(highs.getSolution().col_value);
    }

private:
    HighsInt add_column(double cost, double lower, double upper, bool whole) {
        model_.lp_.col_cost_.push_back(cost);
        model_.lp_.col_lower_.push_back(lower);
        model_.lp_.col_upper_.push_back(upper);
        model_.lp_.integrality_.push_back(whole ? HighsVarType::kInteger : HighsVarType::kContinuous);
        return static_cast<HighsInt>(model_.lp_.col_cost_.size() - 1);
    }

    struct Term {
        HighsInt column;
        double factor;
    };
    void add_row(double lower, double upper, const std::vector<Term>& terms) {
        model_.lp_.row_lower_.push_back(lower);
        model_.lp_.row_upper_.push_back(upper);
        for (const Term& term : terms) {
            indices_.push_back(term.column);
            values_.push_back(term.factor);
        }
        starts_.push_back(static_cast<HighsInt>(indices_.size()));
    }

    // [item][tier]: how many of its matrices are there.
    void add_item_columns() {
        for (const TierItem& item : problem_.items) {
            auto& columns = items_.emplace_back();
            for (size_t t = 0; t <= last_; ++t) columns.push_back(add_column(0, 0, item.count, true));
        }
    }

    // [pool][tier but the last]: GiB held there, the misses of the tiers up to it together, and whether these hold any
    // of it.
    void add_pool_columns() {
        for (const TierPool& pool : problem_.pools) {
            auto& held = held_.emplace_back();
            auto& missed = missed_.emplace_back();
            auto& in_use = in_use_.emplace_back();
            for (size_t t = 0; t < last_; ++t) {
                held.push_back(add_column(0, 0, pool.bytes / kGiBytes, false));
                missed.push_back(add_column(0, 0, 1, false));
                in_use.push_back(add_column(0, t + 1 == last_ ? 1 : 0, 1, true));
            }
        }
    }

    void add_count_rows() {
        for (size_t i = 0; i < items_.size(); ++i) {
            std::vector<Term> terms;
            for (const HighsInt column : items_[i]) terms.push_back({column, 1});
            add_row(problem_.items[i].count, problem_.items[i].count, terms);
        }
    }

    // The tiers up to t are either in use for a pool, hold at least one token's demand of it (all tiers together:
    // always), and miss what lies above every line of the curve; or they miss everything. A curve that begins at
    // nothing is convex as a whole and says itself what little hits.
    void add_pool_rows() {
        for (size_t p = 0; p < held_.size(); ++p) {
            const TierPool& pool = problem_.pools[p];
            std::vector<Term> held_so_far;
            for (size_t t = 0; t < last_; ++t) {
                held_so_far.push_back({held_[p][t], kGiBytes / pool.bytes});
                if (t + 1 == last_ || pool.curve.points().front().share > 0)
                    add_use_rows(pool.curve.cliff(), held_so_far, in_use_[p][t], missed_[p][t]);
                add_curve_rows(pool.curve, held_so_far, missed_[p][t]);
            }
        }
    }

    void add_use_rows(double cliff, const std::vector<Term>& held_so_far, HighsInt in_use, HighsInt missed) {
        std::vector<Term> at_least = held_so_far;
        at_least.push_back({in_use, -std::min(1.0, cliff + kCliffSlack)});
        add_row(0, kInfinity, at_least);
        add_row(1, kInfinity, {{missed, 1}, {in_use, 1}});
    }

    void add_curve_rows(const MissCurve& curve, const std::vector<Term>& held_so_far, HighsInt missed) {
        for (size_t i = 0; i + 1 < curve.points().size(); ++i) {
            const MissCurve::Point &a = curve.points()[i], &b = curve.points()[i + 1];
            const double slope = (b.miss - a.miss) / (b.share - a.share);
            std::vector<Term> terms = {{missed, 1}};
            terms.reserve(held_so_far.size() + 1);
            for (const Term& term : held_so_far) terms.push_back({term.column, -slope * term.factor});
            add_row(a.miss - slope * a.share, kInfinity, terms);
        }
    }

    void add_capacity_rows() {
        for (size_t t = 0; t < last_; ++t) {
            std::vector<Term> terms;
            terms.reserve(items_.size() + held_.size());
            for (size_t i = 0; i < items_.size(); ++i)
                terms.push_back({items_[i][t], problem_.items[i].bytes / kGiBytes});
            for (const auto& held : held_) terms.push_back({held[t], 1});
            add_row(-kInfinity, problem_.tiers[t].capacity_bytes / kGiBytes, terms);
        }
    }

    // Adds pool p's demand as tier t serves it, times `seconds_per_byte`: what the tiers before missed less what this
    // one leaves. The first tier's "before" is all of it, a constant that is returned.
    double add_served(std::vector<Term>& terms, size_t p, size_t t, double seconds_per_byte) const {
        const double seconds = problem_.pools[p].demand_bytes * seconds_per_byte;
        if (t > 0) terms.push_back({missed_[p][t - 1], seconds});
        if (t < last_) terms.push_back({missed_[p][t], -seconds});
        return t == 0 ? seconds : 0;
    }

    void add_time_rows() {
        std::vector<Term> serial;
        double serial_constant = 0;
        for (size_t t = 0; t <= last_; ++t) {
            const Tier& tier = problem_.tiers[t];
            std::vector<Term> link;
            double link_constant = 0;
            for (size_t i = 0; i < items_.size(); ++i) {
                serial.push_back({items_[i][t], problem_.items[i].bytes * tier.compute_seconds_per_byte});
                link.push_back({items_[i][t], problem_.items[i].bytes * tier.move_seconds_per_byte});
            }
            for (size_t p = 0; p < held_.size(); ++p) {
                serial_constant += add_served(
                    serial, p, t, tier.compute_seconds_per_byte + problem_.pool_exposed * tier.move_seconds_per_byte);
                link_constant += add_served(link, p, t, tier.move_seconds_per_byte);
            }
            if (tier.move_seconds_per_byte > 0) add_time_row(link, link_constant);
        }
        add_time_row(serial, serial_constant);
    }

    // The token's time - terms >= constant; a column may be named twice, which HiGHS does not take.
    void add_time_row(const std::vector<Term>& terms, double constant) {
        std::vector<double> factors(model_.lp_.col_cost_.size());
        for (const Term& term : terms) factors[static_cast<size_t>(term.column)] += term.factor * kMilliseconds;
        std::vector<Term> row = {{time_, 1}};
        for (size_t column = 0; column < factors.size(); ++column)
            if (factors[column] != 0) row.push_back({static_cast<HighsInt>(column), -factors[column]});
        add_row(constant * kMilliseconds, kInfinity, row);
    }

    TierAnswer read(const std::vector<double>& values) const {
        const auto value = [&](HighsInt column) { return values[static_cast<size_t>(column)]; };
        TierAnswer answer;
        for (const auto& columns : items_) {
            auto& counts = answer.items.emplace_back();
            for (const HighsInt column : columns) counts.push_back(static_cast<int>(std::lround(value(column))));
        }
        for (const auto& columns : held_) {
            auto& bytes = answer.pools.emplace_back();
            for (const HighsInt column : columns) bytes.push_back(value(column) * kGiBytes);
        }
        answer.seconds = seconds_of(problem_, answer);
        return answer;
    }

    const TierProblem& problem_;
    size_t last_;
    HighsModel model_;
    std::vector<HighsInt> starts_{0}, indices_;
    std::vector<double> values_;
    HighsInt time_ = 0;
    std::vector<std::vector<HighsInt>> items_, held_, missed_, in_use_;
};

Status check_pools_fit(const TierProblem& problem) {
    double room_bytes = 0, wanted_bytes = 0;
    for (size_t t = 0; t + 1 < problem.tiers.size(); ++t) room_bytes += problem.tiers[t].capacity_bytes;
    for (const TierPool& pool : problem.pools) wanted_bytes += pool.bytes * pool.curve.cliff();
    if (wanted_bytes <= room_bytes) return {};
    return fail(ErrorCode::kBudgetTooSmall, "one token's experts take {}, and there is room for {}",
                format_bytes(static_cast<uint64_t>(wanted_bytes)), format_bytes(static_cast<uint64_t>(room_bytes)));
}

}  // namespace

Result<TierAnswer> solve_tiers(const TierProblem& problem, double most_seconds) {
    HYPURA_CHECK(problem.tiers.size() >= 2);
    HYPURA_TRY(check_pools_fit(problem));
    return Programme(problem).solve(most_seconds);
}

double seconds_of(const TierProblem& problem, const TierAnswer& answer) {
    const size_t last = problem.tiers.size() - 1;
    double serial = 0, slowest_link = 0;
    std::vector<double> link(last + 1);
    for (size_t i = 0; i < problem.items.size(); ++i) {
        for (size_t t = 0; t <= last; ++t) {
            const double bytes = problem.items[i].bytes * answer.items[i][t];
            serial += bytes * problem.tiers[t].compute_seconds_per_byte;
            link[t] += bytes * problem.tiers[t].move_seconds_per_byte;
        }
    }
    for (size_t p = 0; p < problem.pools.size(); ++p) {
        const TierPool& pool = problem.pools[p];
        double share = 0, missed_before = 1;
        for (size_t t = 0; t <= last; ++t) {
            if (t < last) share += answer.pools[p][t] / pool.bytes;
            // The solver's rounding must not push a pool off the cliff.
            const double missed = t < last ? pool.curve.miss(std::min(1.0, share * (1 + 1e-9))) : 0;
            const double served = pool.demand_bytes * (missed_before - std::min(missed, missed_before));
            serial += served * (problem.tiers[t].compute_seconds_per_byte +
                                problem.pool_exposed * problem.tiers[t].move_seconds_per_byte);
            link[t] += served * problem.tiers[t].move_seconds_per_byte;
            missed_before = std::min(missed, missed_before);
        }
    }
    for (const double seconds : link) slowest_link = std::max(slowest_link, seconds);
    return std::max(serial, slowest_link);
}

TierAnswer fill_in_order(const TierProblem& problem) {
    const size_t last = problem.tiers.size() - 1;
    TierAnswer answer;
    std::vector<double> room(last);
    for (size_t t = 0; t < last; ++t) room[t] = problem.tiers[t].capacity_bytes;
    const auto take = [&](double bytes) {
        for (size_t t = 0; t < last; ++t) {
            if (room[t] < bytes) continue;
            room[t] -= bytes;
            return t;
        }
        return last;
    };
    for (size_t layer = 0; layer < std::max(problem.items.size(), problem.pools.size()); ++layer) {
        if (layer < problem.items.size()) {
            auto& counts = answer.items.emplace_back(last + 1, 0);
            for (int i = 0; i < problem.items[layer].count; ++i) ++counts[take(problem.items[layer].bytes)];
        }
        if (layer < problem.pools.size()) {
            auto& held = answer.pools.emplace_back(last, 0.0);
            if (const size_t tier = take(problem.pools[layer].bytes); tier < last)
                held[tier] = problem.pools[layer].bytes;
        }
    }
    answer.seconds = seconds_of(problem, answer);
    return answer;
}

}  // namespace hypura::placement
