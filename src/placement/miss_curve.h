// How often a pool of expert slots misses, by the share of all experts that it holds.
//
// Without a trace the curve comes from two numbers. Popularity: the experts of a layer, ranked, are chosen in
// proportion to rank^-skew. Re-use: that share of a token's demands repeats the token before. Everything else is taken
// as independent from token to token. Of independent demands no policy without foresight hits more than the one that
// keeps the most popular (Aho, Denning, Ullman: "Principles of Optimal Page Replacement", J. ACM 18(1), 1971), and the
// pool's forecast (residency/use_forecast.h) finds out which these are: docs/placement.md compares it with
// measurements. LRU, by Che's approximation, was up to 40 % too many misses, and all of them below one token's demand.
//
// The cliff: a pool of less than one token's demand cannot keep what the last token used, so that nothing is re-used.
#pragma once

#include <cstdint>
#include <vector>

namespace hypura::placement {

// The defaults lie in the middle of what has been published (docs/placement.md compares them).
struct Routing {
    double skew = 0.5;
    double reuse = 0.2;
};

// Points in order of `share`; `miss` falls, convex from the first point on. Below the first point everything misses.
class MissCurve {
public:
    struct Point {
        double share = 0;  // of all experts that the pool holds, 0 to 1
        double miss = 1;   // share of demands that it misses
    };

    // For layers of `experts` of which a token uses `used`.
    static MissCurve expected(uint64_t experts, uint64_t used, const Routing& routing);
    // From a trace or a guess; makes it falling and convex (the lower hull), and ends it at (1, 0).
    static MissCurve through(std::vector<Point> points);

    double miss(double share) const;
    // One token's demand: the least share that a plan should give. Of a curve through() points the first one's.
    double cliff() const { return cliff_; }
    const std::vector<Point>& points() const { return points_; }

private:
    MissCurve(std::vector<Point> points, double cliff) : points_(std::move(points)), cliff_(cliff) {}
    std::vector<Point> points_;
    double cliff_;
};

// Expected number of different experts that `tokens` tokens use in one layer.
double expected_union(uint64_t experts, uint64_t used, const Routing& routing, double tokens);

}  // namespace hypura::placement
