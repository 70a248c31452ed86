#include "placement/miss_curve.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hypura::placement {
namespace {

// The smallest x in [0, most] at which the growing `function` reaches `wanted`.
template <class Function>
double solve_growing(const Function& function, double wanted, double most) {
    double low = 0, high = most;
    for (int step = 0; step < 80; ++step) {
        const double middle = (low + high) / 2;
        (function(middle) < wanted ? low : high) = middle;
    }
    return high;
}

std::vector<double> popularity(uint64_t experts, double skew) {
    std::vector<double> shares(experts);
    for (uint64_t rank = 0; rank < experts; ++rank) shares[rank] = std::pow(static_cast<double>(rank + 1), -skew);
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (double& share : shares) share /= sum;
    return shares;
}

// The probability that a token uses each expert. A token chooses `used` different ones, which is like drawing until
// there are so many: each is in with 1 - (1 - p)^draws, where `draws` makes them add up.
std::vector<double> use_probabilities(uint64_t experts, uint64_t used, double skew) {
    const std::vector<double> shares = popularity(experts, skew);
    const auto probability = [](double share, double draws) { return 1 - std::pow(1 - share, draws); };
    const auto expected = [&](double draws) {
        double sum = 0;
        for (const double share : shares) sum += probability(share, draws);
        return sum;
    };
    const double draws = solve_growing(expected, static_cast<double>(used), 1e4 * static_cast<double>(experts));
    std::vector<double> probabilities;
    probabilities.reserve(shares.size());
    for (const double share : shares) probabilities.push_back(std::min(1.0, probability(share, draws)));
    return probabilities;
}

// Che's characteristic time is the parameter: each T gives a pool size and its misses.
MissCurve::Point at_time(const std::vector<double>& probabilities, double tokens, double reuse) {
    double held = 0, missed = 0, used = 0;
    for (const double probability : probabilities) {
        const double absent = std::pow(1 - probability, tokens);
        held += 1 - absent;
        missed += probability * absent;
        used += probability;
    }
    return {held / static_cast<double>(probabilities.size()), (1 - reuse) * missed / used};
}

// Whether `b` lies above the line from `a` to `c`: then it is no corner of the convex curve.
bool above_chord(const MissCurve::Point& a, const MissCurve::Point& b, const MissCurve::Point& c) {
    return (b.miss - a.miss) * (c.share - a.share) >= (c.miss - a.miss) * (b.share - a.share);
}

}  // namespace

MissCurve MissCurve::through(std::vector<Point> points) {
    points.push_back({1, 0});
    std::ranges::stable_sort(points, {}, &Point::share);
    std::vector<Point> hull;
    for (const Point& point : points) {
        if (!hull.empty() && point.miss > hull.back().miss) continue;
        if (!hull.empty() && point.share <= hull.back().share) hull.pop_back();
        while (hull.size() >= 2 && above_chord(hull[hull.size() - 2], hull.back(), point)) hull.pop_back();
        hull.push_back(point);
    }
    return MissCurve(std::move(hull));
}

MissCurve MissCurve::expected(uint64_t experts, uint64_t used, const Routing& routing) {
    const double one_token = experts == 0 ? 1 : std::min(1.0, static_cast<double>(used) / static_cast<double>(experts));
    if (one_token >= 1 || used == 0) return through({});
    const std::vector<double> probabilities = use_probabilities(experts, used, routing.skew);
    std::vector<Point> points;
    for (double tokens = 1; tokens < 1e7; tokens *= 1.25) {
        points.push_back(at_time(probabilities, tokens, routing.reuse));
        if (points.back().miss < 1e-4) break;
    }
    return through(std::move(points));
}

double MissCurve::miss(double share) const {
    if (share < points_.front().share) return 1;
    if (share >= points_.back().share) return points_.back().miss;
    const auto above = std::ranges::upper_bound(points_, share, {}, &Point::share);
    const Point &a = *std::prev(above), &b = *above;
    return a.miss + (b.miss - a.miss) * (share - a.share) / (b.share - a.share);
}

double expected_union(uint64_t experts, uint64_t used, const Routing& routing, double tokens) {
    if (experts == 0 || used >= experts) return static_cast<double>(experts);
    double sum = 0;
    for (const double probability : use_probabilities(experts, used, routing.skew))
        sum += 1 - std::pow(1 - probability, tokens);
    return sum;
}

}  // namespace hypura::placement
