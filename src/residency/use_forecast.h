// Which expert is needed last: the replacement policy of classes of experts, for SlotCache and for its replay alike.
//
// A token goes through the layers in a cycle; one *round* of a layer is one routing of it. The *age* of a page is the
// number of rounds from its last use to the next time that its layer is routed. A page is expected after
//
//     the part of a cycle until its layer comes again + the rounds that will pass it over by then
//
// and the rounds are looked up in a table that this very run fills: how often were pages of such an age and such a
// frequency used when their layer was routed? The table starts from a guess under which the age alone decides, so that
// an untrained forecast is LRU in whole rounds. Passes of many tokens name nearly every expert: they teach nothing, and
// change no page's history.
//
// The rounds of a page change only when its layer is routed, so that finding the page to evict takes no arithmetic but
// an addition and a comparison a layer, and a scan of the layer that it came from.
//
// Deterministic: the same calls give the same answers.
#pragma once

#include "residency/page_id.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace hypura::residency {

// How often pages of an age and a frequency were used when their layer was routed.
class UseTable {
public:
    static constexpr size_t kAges = 16, kRates = 13;

    UseTable();
    // The cell of an age in rounds (0: never used) and a rate of uses a round.
    static uint8_t cell_of(uint32_t age, float rate);
    void add(uint8_t cell, bool used);
    // Makes rounds() follow what has been added.
    void update();
    // Rounds that are expected to pass over a page of that cell.
    float rounds(uint8_t cell) const { return rounds_[cell]; }

private:
    struct Count {
        float seen = 0, used = 0;
    };
    void update_rate(size_t rate, std::span<const float, kAges> shares_by_age);

    std::array<Count, kAges * kRates> counts_;  // by rate, then age
    std::array<float, kAges * kRates> rounds_{};
};

class UseForecast {
public:
    static constexpr uint32_t kMostTokensToLearnFrom = 32;

    struct PagePlace {
        uint32_t slot_class = 0;
        uint32_t layer = 0;
        bool is_expert = true;
    };
    // A class with a page that is no expert is left to the caller: has_class() says so.
    explicit UseForecast(std::span<const PagePlace> pages);

    bool has_class(uint32_t slot_class) const;

    void begin_pass(uint32_t tokens);
    // A layer was routed to these pages. They do not leave before the next call, so that it does not matter when
    // exactly they are released.
    void demand(std::span<const PageId> pages);

    // Whether the page is in memory and nothing but the policy keeps it there. At first none may leave.
    void set_may_leave(PageId page, bool may_leave);
    // Of the pages of a class that may leave, the one that is expected last.
    std::optional<PageId> last_expected(uint32_t slot_class);

    // In cycles through the layers, from the last demand on.
    float expected_wait(PageId page) const;

private:
    static constexpr uint32_t kNowhere = UINT32_MAX;

    // What is kept of one page, by place; rows are stretches of places.
    struct History {
        float uses = 0;    // each halved every so many rounds
        uint32_t age = 0;  // 0: never used
        uint8_t cell = 0;  // of the table
    };
    // The pages of one layer and one class.
    struct Row {
        uint32_t slot_class = 0;
        uint32_t layer = 0;
        uint32_t begin = 0, end = 0;
        float weight = 0;   // what the uses of a page would be, had each round used it
        uint32_t last = 0;  // place of the page that is expected last, if it is known
        bool last_known = false;
    };

    void place_pages(std::span<const PagePlace> pages);
    void protect(std::span<const PageId> pages);
    void finish_round(Row& row);
    float cycle_part(uint32_t layer) const;
    void refresh(uint32_t place);
    void find_last(Row& row) const;

    std::vector<uint8_t> class_is_forecast_;
    std::vector<uint32_t> place_;  // by page; kNowhere: its class is not ours
    std::vector<PageId> page_;     // by place, as everything below
    std::vector<uint32_t> row_of_;
    std::vector<History> history_;
    std::vector<float> rounds_;          // expected to pass the page over
    std::vector<float> leaving_rounds_;  // the same, or -1 if it may not leave
    std::vector<uint8_t> may_leave_;
    std::vector<uint8_t> is_protected_;  // demanded last
    std::vector<Row> rows_;
    std::vector<uint32_t> protected_;  // places
    std::vector<uint32_t> routed_;     // scratch of demand: rows
    UseTable table_;
    uint32_t layers_ = 1;
    uint32_t layer_now_ = 0;
    bool learns_ = true;
};

}  // namespace hypura::residency
