// Which expert is needed last: the replacement policy of classes of experts, for SlotCache and for its replay alike.
//
// A token goes through the layers in a cycle; one *round* of a layer is one routing of it. In each round every expert
// of the layer has a standing (standing.h), chosen or not. What is kept of a page is whether the last round chose it,
// and the mean of its standings twice, once over the last few rounds and once over the last few dozen. A page is
// expected after
//
//     the part of a cycle until its layer comes again + the rounds that will pass it over by then
//
// and the rounds are looked up in a table that this very run fills: how often were pages like that chosen in the next
// round? The table starts from a guess under which good standings and recent ones count. Passes of many tokens name
// nearly every expert: they teach nothing, and change no page's history; but what their later layers hold is expected
// there, whatever its history.
//
// The rounds of a page change only when its layer is routed, so that finding the page to evict takes no arithmetic but
// an addition and a comparison a layer, and a scan of the layer that it came from.
//
// Deterministic: the same calls give the same answers.
#pragma once

#include "residency/page_id.h"
#include "residency/standing.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace hypura::residency {

// What is kept of a page.
struct UseHistory {
    float recent = 0, lasting = 0;  // means of its standings
    bool chosen = false;            // in the last round
};

// How often pages of such a history were used when their layer was routed next.
class UseTable {
public:
    static constexpr size_t kMeans = 16;  // steps of a mean

    UseTable();
    void add(const UseHistory& history, bool used);
    // Makes rounds() follow what has been added.
    void update();
    // Rounds that are expected to pass over such a page: the share is interpolated between cells, as a logarithm.
    float rounds(const UseHistory& history) const;

private:
    struct Count {
        float seen = 0, used = 0;
    };
    static constexpr size_t kCells = 2 * kMeans * kMeans;  // by chosen, recent, lasting
    static size_t cell_of(size_t chosen, size_t recent, size_t lasting) {
        return (chosen * kMeans + recent) * kMeans + lasting;
    }
    std::array<Count, kCells> counts_;
    std::array<float, kCells> log_share_{};  // of those that were used
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
    // A layer was routed to these pages, in which its experts stood like that. They do not leave before the next call,
    // so that it does not matter when exactly they are released. What was used elsewhere may leave, and is learned from
    // like the others.
    void demand(std::span<const PageId> pages, const LayerStandings& standings = {});

    // Whether the page is in memory and nothing but the policy keeps it there. At first none may leave.
    void set_may_leave(PageId page, bool may_leave);
    // Of the pages of a class that may leave, the one that is expected last.
    std::optional<PageId> last_expected(uint32_t slot_class);
    // That of the class of `guessed`, which its layer's next routing is taken to name: none where all are expected
    // before that.
    std::optional<PageId> last_expected_after(PageId guessed);

    // In cycles through the layers, from the last demand on.
    float expected_wait(PageId page) const;
    // Rounds that are expected to pass the page over, by its history alone. Of those that are expected equally late the
    // one with most leaves.
    float expected_rounds(PageId page) const { return rounds_[place_[page]]; }

private:
    static constexpr uint32_t kNowhere = UINT32_MAX;

    // The pages of one layer and one class.
    struct Row {
        uint32_t slot_class = 0;
        uint32_t layer = 0;
        uint32_t begin = 0, end = 0;
        uint32_t rounds = 0;
        uint32_t last = 0;  // place of the page that is expected last, if it is known
        bool last_known = false;
    };

    struct Last {
        uint32_t place = kNowhere;
        float wait = -1;
    };

    void place_pages(std::span<const PagePlace> pages);
    void choose(std::span<const PageId> pages, std::span<const PageId> elsewhere);
    void protect(std::span<const PageId> pages);
    void take_standings(const LayerStandings& standings);
    void assume_standings(const Row& row);
    void finish_round(Row& row);
    float cycle_part(uint32_t layer) const;
    void refresh(uint32_t place);
    void find_last(Row& row) const;
    bool is_sure_of(const Row& row) const { return !learns_ && row.layer > layer_now_; }
    Last find_last_of(uint32_t slot_class);

    std::vector<uint8_t> class_is_forecast_;
    std::vector<uint32_t> place_;  // by page; kNowhere: its class is not ours
    std::vector<PageId> page_;     // by place, as everything below; rows are stretches of places
    std::vector<uint32_t> row_of_;
    std::vector<UseHistory> history_;
    std::vector<float> rounds_;          // expected to pass the page over
    std::vector<float> leaving_rounds_;  // the same, or -1 if it may not leave
    std::vector<uint8_t> may_leave_;
    std::vector<uint8_t> is_protected_;  // demanded last
    std::vector<uint8_t> is_chosen_;     // likewise, or used elsewhere
    std::vector<Standing> standing_;     // in the round in hand
    std::vector<Row> rows_;
    std::vector<uint32_t> protected_;  // places
    std::vector<uint32_t> chosen_;     // places
    std::vector<uint32_t> routed_;     // scratch of demand: rows
    UseTable table_;
    uint32_t layers_ = 1;
    uint32_t layer_now_ = 0;
    bool learns_ = true;
};

}  // namespace hypura::residency
