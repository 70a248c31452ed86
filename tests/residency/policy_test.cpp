// What the shipped policy must reach on routings of a known kind: near the optimum, and nowhere worse than LRU.
#include "residency/policy_simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <format>
#include <random>

namespace hypura::residency {
namespace {

struct Routing {
    uint32_t layers = 6, experts = 64, top_k = 4;
    double skew = 0;      // popularity falls as rank^-skew
    double locality = 0;  // the chance that an expert of the last token is named again
    uint32_t passes = 300;
    uint32_t tokens = 1;
    uint32_t prompt_every = 0, prompt_tokens = 0;
    bool tells_ranks = true;
};

// Draws experts as a router of that kind would. Nothing here depends on the standard library's distributions.
class Router {
public:
    explicit Router(const Routing& routing) : routing_(routing), last_(routing.layers) {
        for (uint32_t rank = 0; rank < routing.experts; ++rank) {
            const double before = sums_.empty() ? 0 : sums_.back();
            sums_.push_back(before + std::pow(rank + 1, -routing.skew));
        }
    }
    // The union of what so many tokens name.
    std::vector<uint32_t> route(uint32_t layer, uint32_t tokens) {
        std::vector<uint32_t> named;
        standings_.begin(routing_.experts, routing_.top_k);
        for (uint32_t token = 0; token < tokens; ++token) {
            for (const uint32_t expert : route_token(layer))
                if (!std::ranges::contains(named, expert)) named.push_back(expert);
            if (routing_.tells_ranks) rank(layer);
        }
        if (!routing_.tells_ranks) standings_.clear();
        return named;
    }
    std::span<const Standing> standings() const { return standings_.standings(); }

private:
    // Behind those that the last token names, the others as if they were drawn, too.
    void rank(uint32_t layer) {
        std::vector<uint32_t> others = last_[layer];
        while (others.size() < routing_.experts) {
            uint32_t expert = popular(layer);
            for (int tries = 0; std::ranges::contains(others, expert); ++tries)
                expert = tries < 20 ? popular(layer) : (expert + 1) % routing_.experts;
            others.push_back(expert);
        }
        standings_.add_ranking(std::vector<int32_t>(others.begin(), others.end()));
    }
    const std::vector<uint32_t>& route_token(uint32_t layer) {
        std::vector<uint32_t> named;
        for (const uint32_t expert : last_[layer])
            if (draw() < routing_.locality) named.push_back(expert);
        while (named.size() < routing_.top_k) {
            const uint32_t expert = popular(layer);
            if (!std::ranges::contains(named, expert)) named.push_back(expert);
        }
        return last_[layer] = named;
    }
    // Each layer has other favourites: 5 has no divisor in common with the numbers of experts.
    uint32_t popular(uint32_t layer) {
        const auto rank = std::ranges::upper_bound(sums_, draw() * sums_.back()) - sums_.begin();
        return (static_cast<uint32_t>(rank) * 5 + layer * 3) % routing_.experts;
    }
    double draw() { return static_cast<double>(random_()) / 4294967296.0; }

    Routing routing_;
    std::vector<double> sums_;
    std::vector<std::vector<uint32_t>> last_;
    StandingTable standings_;
    std::mt19937 random_{9};
};

DemandTrace trace_of(const Routing& routing) {
    DemandTrace trace;
    trace.class_slots = {0};
    for (uint32_t page = 0; page < routing.layers * routing.experts; ++page)
        trace.pages.push_back(
            {static_cast<int32_t>(page / routing.experts), static_cast<int32_t>(page % routing.experts), 0, 100});
    Router router(routing);
    const auto pass = [&](uint32_t tokens) {
        trace.events.push_back({TraceStep::kPass, tokens});
        for (uint32_t layer = 0; layer < routing.layers; ++layer) {
            const std::vector<uint32_t> named = router.route(layer, tokens);
            const std::span<const Standing> standings = router.standings();
            trace.events.push_back(
                {TraceStep::kAcquire, static_cast<uint32_t>(named.size()), static_cast<uint32_t>(standings.size())});
            trace.standings.insert(trace.standings.end(), standings.begin(), standings.end());
            for (const uint32_t expert : named) trace.demands.push_back(layer * routing.experts + expert);
        }
    };
    for (uint32_t i = 0; i < routing.passes; ++i) {
        if (routing.prompt_every > 0 && i % routing.prompt_every == 0) pass(routing.prompt_tokens);
        pass(routing.tokens);
    }
    trace.found.resize(trace.demands.size());
    return trace;
}

struct Rates {
    Simulation lru, shipped, belady;
};
Rates rates_of(const DemandTrace& trace, double share) {
    const std::vector<uint32_t> slots = slots_for_share(trace, share);
    const auto run = [&](Policy policy) { return simulate(trace, policy, slots).value(); };
    return {run(Policy::kLru), run(Policy::kShipped), run(Policy::kBelady)};
}
constexpr double kShares[] = {0.25, 0.4, 0.6};

// What it may lose against LRU. A pool of exactly one token's demand can keep nothing but the last token's.
double least_loss(const Routing& routing, double share) {
    return share * routing.experts <= routing.top_k ? 0.02 : 0.005;
}

TEST(ShippedPolicy, IsNearTheOptimumWhereRoutingHasSkewOrLocality) {
    for (const Routing& routing :
         {Routing{.skew = 1.5}, Routing{.skew = 1.3, .locality = 0.5}, Routing{.skew = 0.5, .locality = 0.8},
          Routing{12, 8, 2, 2}, Routing{12, 8, 2, 0.5, 0.8}}) {
        const DemandTrace trace = trace_of(routing);
        for (const double share : kShares) {
            const Rates rates = rates_of(trace, share);
            const auto name = std::format("{} experts, skew {}, locality {}, pool {}", routing.experts, routing.skew,
                                          routing.locality, share);
            EXPECT_GE(rates.shipped.warm.hit_rate(), 0.9 * rates.belady.warm.hit_rate()) << name;
            const double loss = least_loss(routing, share);
            EXPECT_GE(rates.shipped.warm.hit_rate(), rates.lru.warm.hit_rate() - loss) << name;
            EXPECT_GE(rates.shipped.all.hit_rate(), rates.lru.all.hit_rate() - loss) << name;
        }
    }
}

// Whole runs, from the first token on.
TEST(ShippedPolicy, IsNowhereWorseThanLru) {
    for (const Routing& routing :
         {Routing{.passes = 100}, Routing{.skew = 0.3, .locality = 0.3}, Routing{.skew = 0.7, .locality = 0.8},
          Routing{.skew = 0.5, .locality = 0.3, .passes = 100}, Routing{24, 64, 4, 0.5, 0.3, 200},
          Routing{12, 8, 2, 0.4, 0.4}, Routing{12, 8, 2, 0.4, 0.6, 100},
          // Passes of several tokens, and prompts between single ones.
          Routing{.skew = 0.5, .locality = 0.3, .tokens = 4}, Routing{.skew = 0.5, .locality = 0.3, .tokens = 16},
          Routing{.skew = 1, .locality = 0.3, .passes = 100, .tokens = 64},
          Routing{.skew = 0.5, .locality = 0.3, .prompt_every = 50, .prompt_tokens = 100},
          Routing{.skew = 0.5, .locality = 0.3, .prompt_every = 30, .prompt_tokens = 20}}) {
        const DemandTrace trace = trace_of(routing);
        for (const double share : kShares) {
            const Rates rates = rates_of(trace, share);
            EXPECT_GE(rates.shipped.all.hit_rate(), rates.lru.all.hit_rate() - least_loss(routing, share))
                << routing.experts << " experts, skew " << routing.skew << ", locality " << routing.locality << ", "
                << routing.tokens << " tokens a pass, pool " << share;
        }
    }
}

TEST(ShippedPolicy, RanksTellMoreThanTheChoice) {
    for (Routing routing : {Routing{.skew = 1}, Routing{24, 64, 4, 0.5, 0.3, 200}, Routing{12, 128, 8, 0.7, 0.3}}) {
        const DemandTrace with_ranks = trace_of(routing);
        routing.tells_ranks = false;
        const DemandTrace without = trace_of(routing);
        for (const double share : kShares) {
            const Rates better = rates_of(with_ranks, share);
            const Rates worse = rates_of(without, share);
            EXPECT_GT(better.shipped.warm.hit_rate(), worse.shipped.warm.hit_rate() + 0.002) << share;
            EXPECT_GT(worse.shipped.warm.hit_rate(), worse.lru.warm.hit_rate() - 0.005) << share;
        }
    }
}

}  // namespace
}  // namespace hypura::residency
