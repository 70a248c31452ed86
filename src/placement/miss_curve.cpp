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

// A pool of the most popular experts, for each number of them. `probabilities` fall.
std::vector<MissCurve::Point> pools_of_the_popular(const std::vector<double>& probabilities, double cliff,
                                                   double reuse) {
    const auto experts = static_cast<double>(probabilities.size());
    const double used = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
    std::vector<MissCurve::Point> points = {{0, 1}};
    double missed = used;
    for (const double probability : probabilities) {
        missed -= probability;
        const double share = points.back().share + 1 / experts;
        points.push_back({share, std::max(missed, 0.0) / used * (share < cliff ? 1 : 1 - reuse)});
    }
    return points;
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
    const double first = hull.front().share;
    return {std::move(hull), first};
}

MissCurve MissCurve::expected(uint64_t experts, uint64_t used, const Routing& routing) {
    const double one_token = experts == 0 ? 1 : std::min(1.0, static_cast<double>(used) / static_cast<double>(experts));
    if (one_token >= 1 || used == 0) return through({});
    const std::vector<double> probabilities = use_probabilities(experts, used, routing.skew);
    MissCurve curve = through(pools_of_the_popular(probabilities, one_token, routing.reuse));
    curve.cliff_ = one_token;
    return curve;
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
