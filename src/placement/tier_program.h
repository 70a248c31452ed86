// Which weights go to which tier, as a mixed-integer programme: the part of planning where arithmetic alone does not
// see the answer, because dense weights, expert pools and several memories compete.
//
// Tiers go from the fastest to the last one, which holds everything (the disk). Seconds a token:
//
//     compute  = sum over items and pools of bytes x compute_seconds_per_byte of the tier that serves them
//     moved_t  = bytes a token that tier t serves from elsewhere than where they are computed x move_seconds_per_byte//
//     T       >= compute + pool_exposed x sum over pools of moved    (an expert is known only when the router has
//     spoken, so
//                                                        part of its way cannot be hidden behind the same token's
//                                                        arithmetic)
//     T       >= moved_t of items and pools, for each t (a link carries one thing at a time; dense weights are known
//                                                        beforehand, so they hide behind compute or the other way
//                                                        round)
//
// The programme minimises T. Counts of items are integers; pools take bytes. Misses of a pool are its convex miss
// curve, written as lines that lie below it; a pool's share over the first tiers never falls below one token's demand
// as long as that fits (MissCurve::cliff). Solved by HiGHS (https://highs.dev, MIT licence).
//
// The roofline form with overlap follows MoE-Lightning (arXiv 2411.11217), the programme over tiers FlexGen
// (2303.06865).
#pragma once

#include "base/status.h"
#include "placement/miss_curve.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hypura::placement {

struct Tier {
    std::string name;
    double capacity_bytes = 0;            // of the last tier: ignored
    double compute_seconds_per_byte = 0;  // of weights that this tier serves
    double move_seconds_per_byte = 0;     // to where they are computed; 0: they are computed where they are
};

// `count` alike matrices that every token reads whole.
struct TierItem {
    double bytes = 0;
    int count = 1;
};

// Experts of which a token uses some.
struct TierPool {
    double bytes = 0;         // all of them
    double demand_bytes = 0;  // that a token uses
    MissCurve curve;
};

struct TierProblem {
    std::vector<Tier> tiers;  // at least two
    std::vector<TierItem> items;
    std::vector<TierPool> pools;
    double pool_exposed = 1;  // 1: all of an expert's way is waited for; 0: none, which bounds any engine
};

struct TierAnswer {
    std::vector<std::vector<int>> items;     // [item][tier]: how many; a row adds up to the item's count
    std::vector<std::vector<double>> pools;  // [pool][tier but the last]: bytes held there
    double seconds = 0;                      // a token, by the curves themselves
};

// kBudgetTooSmall when one token's demand of the pools does not fit into the tiers above the last one; kInternal when
// HiGHS fails, or finds nothing in the time it is given, which is more than 128 layers of 512 experts take.
Result<TierAnswer> solve_tiers(const TierProblem& problem, double most_seconds = 0.8);

// Seconds a token of any distribution, by the formulas above.
double seconds_of(const TierProblem& problem, const TierAnswer& answer);

// What engines do that know no better: layers in order, each whole, into the first tier with room. Item and pool i
// belong to layer i; experts that do not fit are read for every token. For comparison.
TierAnswer fill_in_order(const TierProblem& problem);

}  // namespace hypura::placement
