// How the experts of a layer stood in a routing: not only which were chosen, but how near the others came.
//
// A router ranks all of its experts, and a graph sorts them to take the best `chosen`. An expert that was chosen is one
// bit of evidence about the next tokens; its rank is five or six, for every expert and every routing. Ranks serve
// every kind of router alike, whatever its scores mean. With rank r (0: best) of E experts, of which K are chosen, a
// standing is
//
//     32 x (1 - log((r + 1) / K) / log(E / K)), rounded, at most 63
//
// 0 for the last one, 32 for the last one that is chosen.
#pragma once

#include "residency/page_id.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace hypura::residency {

using Standing = uint8_t;
constexpr Standing kHighestStanding = 63;
constexpr Standing kLastChosen = 32;

// Where nothing but the choice is known.
constexpr Standing kTypicalChosen = 56;
constexpr Standing kTypicalPassedOver = 4;

// Those of one layer's experts: page first_page + e of expert e. None: nothing but the choice is known.
struct LayerStandings {
    PageId first_page = 0;
    std::span<const Standing> of_experts;
    std::span<const PageId> used_elsewhere = {};  // that were chosen, too, but are not demanded: a device has them
};

// Turns rankings into standings, one routing after the other. Of several tokens each expert keeps its best one.
class StandingTable {
public:
    // A routing of which nothing is known but its choice.
    void clear() { standings_.clear(); }
    // A routing that takes the best `chosen` of so many experts.
    void begin(size_t experts, size_t chosen);
    // One token's experts, all of them, best first. What is no expert's number is passed over.
    void add_ranking(std::span<const int32_t> ranking);
    // Nobody will ask for this expert soon, however it stands.
    void set_aside(size_t expert) { standings_[expert] = 0; }

    std::span<const Standing> standings() const { return standings_; }

private:
    std::vector<Standing> by_rank_;
    size_t chosen_ = 0;
    std::vector<Standing> standings_;
};

}  // namespace hypura::residency
