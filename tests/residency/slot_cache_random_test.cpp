// Long random runs: against a model of the replacement rules where reads come back at once, and against nothing but the
// file's bytes where they come back when the kernel likes.
#include "residency/cache_fixture.h"

#include <list>
#include <set>
#include <utility>

namespace hypura::residency {
namespace {

constexpr uint32_t kPages = 30;
constexpr uint32_t kSteps = 20'000;
constexpr uint32_t kClasses = 2;
const std::vector<uint32_t> kSlots = {6, 4};

constexpr uint32_t kPagesALayer = 5;  // of each class

uint32_t layer_of(PageId page) { return page / kClasses / kPagesALayer; }
uint32_t class_of(PageId page) { return page % kClasses; }

// The rules in slot_cache.h, as plainly as possible. Of experts, what is expected when is the forecast's business;
// which pages may leave, and which of them does, is checked.
class Model {
public:
    explicit Model(bool experts) : experts_(experts), forecast_(places(experts)) {}

    std::vector<uint32_t> pins = std::vector<uint32_t>(kPages, 0);
    uint64_t demands = 0, hits = 0, evictions = 0, wasted = 0;

    bool present(PageId page) const { return present_.contains(page); }

    void begin_pass(uint32_t tokens) { forecast_.begin_pass(tokens); }
    bool acquire(const std::vector<PageId>& pages) {
        forecast_.demand(pages);
        last_demand_ = pages;
        std::vector<PageId> missing;
        for (const PageId page : pages) {
            if (present(page))
                ++hits;
            else
                missing.push_back(page);
            ++demands;
            ++pins[page];
            promised_.erase(page);
            unpinned_.remove(page);
        }
        const auto loads = [&](PageId page) { return load(page, true); };
        const auto unfit = std::ranges::find_if_not(missing, loads);
        if (unfit == missing.end()) return true;
        for (const PageId page : std::ranges::subrange(missing.begin(), unfit)) present_.erase(page);
        release(pages);
        return false;
    }
    void release(const std::vector<PageId>& pages) {
        for (const PageId page : pages)
            if (--pins[page] == 0 && present(page)) unpinned_.push_back(page);
    }
    bool prefetch(PageId page) {
        if (present(page)) return true;
        if (!load(page, false)) return false;
        unpinned_.push_back(page);
        promised_.insert(page);
        return true;
    }

    void withdraw(PageId page) { wasted += promised_.erase(page); }

private:
    static std::vector<UseForecast::PagePlace> places(bool experts) {
        std::vector<UseForecast::PagePlace> all;
        for (PageId page = 0; page < kPages; ++page) all.push_back({class_of(page), layer_of(page), experts});
        return all;
    }
    bool load(PageId page, bool for_demand) {
        if (used(class_of(page)) == kSlots[class_of(page)] && !make_room(page, for_demand)) return false;
        present_.insert(page);
        return true;
    }
    uint64_t used(uint32_t slot_class) const {
        return static_cast<uint64_t>(
            std::ranges::count_if(present_, [&](PageId page) { return class_of(page) == slot_class; }));
    }
    bool make_room(PageId wanted, bool for_demand) {
        const uint32_t slot_class = class_of(wanted);
        const auto victim = experts_ ? last_expected(slot_class) : oldest(slot_class);
        if (victim && experts_ && !for_demand && forecast_.expected_wait(*victim) <= cycle_part(wanted)) return false;
        if (victim) return evict(*victim);
        if (!for_demand) return false;
        for (auto page = unpinned_.rbegin(); page != unpinned_.rend(); ++page)
            if (class_of(*page) == slot_class && promised_.contains(*page)) return evict(*page);
        return false;
    }
    std::optional<PageId> oldest(uint32_t slot_class) const {
        for (const PageId page : unpinned_)
            if (class_of(page) == slot_class && !promised_.contains(page)) return page;
        return std::nullopt;
    }
    std::optional<PageId> last_expected(uint32_t slot_class) const {
        std::optional<PageId> last;
        for (const PageId page : present_) {
            if (class_of(page) != slot_class || pins[page] > 0 || promised_.contains(page)) continue;
            if (std::ranges::contains(last_demand_, page)) continue;
            if (!last || lateness(page) > lateness(*last)) last = page;
        }
        return last;
    }
    std::pair<float, float> lateness(PageId page) const {
        return {forecast_.expected_wait(page), forecast_.expected_rounds(page)};
    }
    // Until the layer of a guess is routed, in cycles.
    float cycle_part(PageId page) const {
        constexpr uint32_t kLayers = kPages / kClasses / kPagesALayer;
        const uint32_t now = last_demand_.empty() ? 0 : layer_of(last_demand_.front());
        return static_cast<float>((layer_of(page) + kLayers - now - 1) % kLayers + 1) / kLayers;
    }
    bool evict(PageId page) {
        ++evictions;
        wasted += promised_.erase(page);
        present_.erase(page);
        unpinned_.remove(page);
        return true;
    }

    bool experts_;
    UseForecast forecast_;
    std::vector<PageId> last_demand_;
    std::set<PageId> present_;
    std::set<PageId> promised_;
    std::list<PageId> unpinned_;  // least recently used first
};

class RandomRun : public CacheFixture {
protected:
    std::vector<PageId> some_pages() {
        std::vector<PageId> pages(1 + random_() % 4);
        for (PageId& page : pages) page = some_page();
        std::ranges::sort(pages);
        const auto repeated = std::ranges::unique(pages);
        pages.erase(repeated.begin(), repeated.end());
        std::ranges::shuffle(pages, random_);
        return pages;
    }
    // Some pages far more often than others, as with experts.
    PageId some_page() { return static_cast<PageId>(std::min(random_() % kPages, random_() % kPages)); }

    std::vector<PageId> take_held() {
        const auto chosen = held_.begin() + static_cast<std::ptrdiff_t>(random_() % held_.size());
        std::vector<PageId> pages = std::move(*chosen);
        held_.erase(chosen);
        return pages;
    }

    std::mt19937 random_{42};
    std::vector<std::vector<PageId>> held_;  // acquired, in sets that are released together
};

class ModelRun : public RandomRun {
protected:
    void run(bool experts) {
        experts_ = experts;
        pages_a_layer_ = kPagesALayer;
        model_.emplace(experts);
        open_manual(kPages, kSlots);
        for (uint32_t i = 0; i < kSteps; ++i) {
            step();
            expect_agreement();
            ASSERT_FALSE(HasFatalFailure()) << "step " << i;
        }
        EXPECT_GT(counters().evictions, kSteps / 10);
        EXPECT_GT(counters().prefetch_wasted, 100u);
    }
    void step() {
        if (random_() % 8 == 0) step_pass(random_() % 4 == 0 ? 100 : 1);
        switch (random_() % 4) {
            case 0:
                if (random_() % 4 == 0) return step_withdraw(some_page());
                return step_prefetch(some_page());
            case 1:
                if (!held_.empty()) return step_release(take_held());
                [[fallthrough]];
            default:
                return step_acquire(some_pages());
        }
    }
    void step_pass(uint32_t tokens) {
        cache_->begin_pass(tokens);
        model_->begin_pass(tokens);
    }
    void step_withdraw(PageId page) {
        cache_->withdraw({&page, 1});
        model_->withdraw(page);
    }
    void step_prefetch(PageId page) {
        if (!model_->present(page) && model_->pins[page] > 0) return;
        ASSERT_EQ(prefetch(page), model_->prefetch(page));
    }
    void step_release(const std::vector<PageId>& pages) {
        release(pages);
        model_->release(pages);
    }
    void step_acquire(const std::vector<PageId>& pages) {
        const Status acquired = acquire(pages);
        ASSERT_EQ(acquired.has_value(), model_->acquire(pages));
        if (!acquired) return;
        held_.push_back(pages);
        if (random_() % 4 == 0) return;
        ASSERT_TRUE(wait(pages));
        for (const PageId page : pages) ASSERT_TRUE(bytes_right(page));
    }
    void expect_agreement() const {
        for (PageId page = 0; page < kPages; ++page) ASSERT_EQ(present(page), model_->present(page)) << page;
        ASSERT_EQ(counters().demands, model_->demands);
        ASSERT_EQ(counters().hits + counters().joined, model_->hits);
        ASSERT_EQ(counters().evictions, model_->evictions);
        ASSERT_EQ(counters().prefetch_wasted, model_->wasted);
    }

    std::optional<Model> model_;
};

TEST_F(ModelRun, DenseWeightsFollowTheRulesStepByStep) { run(false); }
TEST_F(ModelRun, ExpertsFollowTheRulesStepByStep) { run(true); }

class KernelRun : public RandomRun {
protected:
    void run() {
        for (uint32_t i = 0; i < kSteps / 4; ++i) {
            step();
            ASSERT_FALSE(HasFatalFailure()) << "step " << i;
        }
    }
    void step() {
        for (int i = 0; i < 2; ++i) ASSERT_TRUE(cache_->prefetch(some_page()));
        const std::vector<PageId> pages = some_pages();
        if (acquire(pages)) {
            ASSERT_TRUE(wait(pages));
            held_.push_back(pages);
        }
        expect_held_pages();
        if (!held_.empty() && random_() % 3 > 0) release(take_held());
    }
    void expect_held_pages() const {
        for (const auto& pages : held_)
            for (const PageId page : pages) ASSERT_TRUE(bytes_right(page)) << page;
    }
};

TEST_F(KernelRun, HeldPagesHaveTheirBytesWithPread) {
    open(kPages, kSlots, storage::make_raw_reader({.kind = storage::ReaderKind::kPread}).value());
    run();
}

TEST_F(KernelRun, HeldPagesHaveTheirBytesWithTheBestReader) {
    open(kPages, kSlots, storage::make_raw_reader({}).value());
    run();
}

}  // namespace
}  // namespace hypura::residency
