// How often a pool of expert slots misses, by the share of all experts that it holds.
//
// Without a trace the curve comes from two numbers. Popularity: the experts of a layer, ranked, are chosen in
// proportion to rank^-skew. Re-use: that share of a token's demands repeats the token before. Everything else is taken
// as independent from token to token, and the pool as LRU; then Che's approximation gives the hit rate (Che, Tung,
// Wang: "Hierarchical Web Caching Systems", IEEE JSAC 20(7), 2002): there is a time T, here in tokens, such that an
// expert is in the pool exactly if it was asked for during the last T tokens.
//
// The cliff: a pool of less than one token's demand never hits, since LRU drops an expert just before it returns.
#pragma once

#include <cstdint>
#include <vector>

namespace hypura::placement {

// The defaults lie in the middle of what has been published for LRU (docs/placement.md compares them).
struct Routing {
    double skew = 0.7;
    double reuse = 0.3;
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
    // One token's demand: the least share that can hit at all.
    double cliff() const { return points_.front().share; }
    const std::vector<Point>& points() const { return points_; }

private:
    explicit MissCurve(std::vector<Point> points) : points_(std::move(points)) {}
    std::vector<Point> points_;
};

// Expected number of different experts that `tokens` tokens use in one layer.
double expected_union(uint64_t experts, uint64_t used, const Routing& routing, double tokens);

}  // namespace hypura::placement
