// Which streamed weights are in memory right now, and where.
//
// A *page* is what is loaded and evicted as one: the slices of one expert (gate, up, down), or one dense matrix. A
// *slot* is memory for one page; slots of equal stride form a *class*. Every page belongs to one class and may sit in
// any slot of it. The cache decides which page leaves; it never decides what is read when: callers acquire, prefetch
// and release.
//
// A page is in one of three states, and leaves them only as drawn:
//
//     absent --acquire/prefetch--> loading --every slice read--> loaded --evicted--> absent
//                                     |
//                                     +--a read failed for good--> absent   (the slot is free again)
//
// Invariants: a slot holds at most one page; a pinned page is never evicted; only a successful completion makes a page
// loaded; a page whose reads are in flight keeps its slot until they have all come back.
//
// Within a class of experts the page leaves that is expected to be used last (use_forecast.h), within any other the one
// that was used least recently. Pages that were prefetched and not used yet are *promised*: they are evicted only for a
// demand that finds nothing else, the latest promise first. With a cyclic scan (dense models) this makes the class a
// ring with look-ahead. Measured alternatives are in docs/residency.md.
//
// Not thread-safe: it belongs to the thread that runs the model.
#pragma once

#include "base/background_commit.h"
#include "base/memory_region.h"
#include "base/status.h"
#include "residency/page_id.h"
#include "residency/use_forecast.h"
#include "storage/reader.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace hypura::residency {

using SlotIndex = uint32_t;
inline constexpr SlotIndex kNoSlot = UINT32_MAX;

struct SlotClassSpec {
    uint64_t stride_bytes = 0;  // from slot to slot
    uint32_t slots = 0;
};

// Where slots lie, if not in ordinary memory: a driver's pinned memory, which comes in pieces of at most `piece_bytes`.
struct SlotMemory {
    std::function<Result<MemoryRegion>(uint64_t bytes)> allocate;  // empty: ordinary memory, one piece a class
    uint64_t piece_bytes = 0;
};

// A page has at most this many slices.
inline constexpr size_t kMostSlices = 32;

// One read of a page: file bytes [offset, offset + bytes) to slot_offset within the slot.
struct SliceSpec {
    uint32_t file = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t slot_offset = 0;
    std::string_view what;  // tensor name; outlives the cache
};

struct PageSpec {
    uint32_t slot_class = 0;
    uint32_t group = 0;  // for the eviction counts: the layer
    std::vector<SliceSpec> slices;
    int32_t expert = -1;  // for traces: its number within the layer; -1: a dense weight
};

// What a demand found.
enum class Found : uint8_t {
    kHit,         // loaded
    kPrefetched,  // loaded by a prefetch, and not demanded since
    kWait,        // on its way
    kMiss,        // absent
};

// Hears what is asked of a cache, in order, on the thread that runs the model: traces. It must not call the cache.
class CacheObserver {
public:
    virtual ~CacheObserver() = default;
    // A pass of so many tokens begins.
    virtual void pass_begins(uint32_t tokens) = 0;
    // One acquire(), before anything is read for it: found[i] is what pages[i] was. Page ids as in the cache.
    // `standings` are those of the layer, if they are known.
    virtual void acquired(std::span<const PageId> pages, std::span<const Found> found,
                          const LayerStandings& standings) = 0;
    // A prefetch() that started a read.
    virtual void prefetched(PageId page) = 0;
    // A prefetched page whose promise was taken back may leave from now on: at once, or when its read has ended.
    virtual void withdrawn(PageId page) = 0;
};

struct CacheCounters {
    uint64_t demands = 0;  // pages acquired
    uint64_t hits = 0;     // of those, loaded already
    uint64_t joined = 0;   // of those, being prefetched when demanded
    uint64_t evictions = 0;
    uint64_t prefetches = 0;       // pages whose read was started ahead of demand
    uint64_t prefetch_used = 0;    // of those, demanded before they left
    uint64_t prefetch_wasted = 0;  // of those, evicted before use, or withdrawn
    int64_t wait_us = 0;           // wait() stood still

    bool operator==(const CacheCounters&) const = default;
};

class SlotCache {
public:
    // `reader` outlives the cache. Slot memory is reserved in huge pages and committed at once, so that no later read
    // or computation faults. Slots begin and end with room for BlockReader's slack: the caller's slot_offsets say
    // where.
    static Result<SlotCache> create(const std::vector<SlotClassSpec>& classes, std::vector<PageSpec> pages,
                                    storage::BlockReader& reader, const SlotMemory& memory = {});

    SlotCache(SlotCache&&) = default;
    ~SlotCache() = default;  // waits for its reads in flight, so that none lands in freed memory

    // A pass of so many tokens begins.
    void begin_pass(uint32_t tokens);

    // Pins `pages` (each counts as one demand) and starts the reads of the absent ones: the first slice of each in the
    // order given, then the second of each, and so on, since that is the order in which a layer computes with them.
    // Behind them, in the same submission, go those of `guesses` that are absent and find a slot as in prefetch().
    // `standings`, of a routing, teach the policy what will be needed again; it can do without.
    // kBudgetTooSmall when a class has no slot left that is not pinned: nothing is pinned then.
    Status acquire(std::span<const PageId> pages, std::span<const PageId> guesses = {},
                   const LayerStandings& standings = {});

    // Blocks until the pages, which must be pinned, are loaded. An error is the first failed page's; pages that failed
    // stay pinned and absent until released, and are read afresh by the next acquire.
    Status wait(std::span<const PageId> pages);

    // Whether that slice of a pinned page is in memory. An error once a read of the page has failed.
    Result<bool> has_slice(PageId page, size_t slice) const;

    // Takes note of the reads that have finished: has_slice() changes only by this, wait_for_more() and the calls that
    // start reads.
    Status poll() { return drain(false); }
    // Blocks until at least one more read has finished, if any is outstanding.
    Status wait_for_more();

    // Undoes one acquire: the pages become the most recently used ones, in the order given.
    void release(std::span<const PageId> pages);

    // Starts reading an absent page if a slot can be had without evicting a pinned or promised page, or an expert that
    // is needed sooner; says whether the page is now loaded or on its way.
    Result<bool> prefetch(PageId page);

    // Takes back the promises to those of `pages` that have not been used: they leave by their own history, as if they
    // had always been here, but not before their reads have ended.
    void withdraw(std::span<const PageId> pages);

    size_t reads_under_way() const { return reader_->outstanding(); }  // slices
    bool is_absent(PageId page) const { return pages_[page].state == PageState::kAbsent; }
    bool is_loaded(PageId page) const { return pages_[page].state == PageState::kLoaded; }
    // Of a page that is loaded or loading.
    SlotIndex slot_of(PageId page) const { return pages_[page].slot; }
    std::byte* slot_memory(uint32_t slot_class, SlotIndex slot) const;
    std::byte* slice_memory(PageId page, size_t slice) const;
    // All slots of a class in one piece, slot after slot: in ordinary memory only.
    std::byte* class_memory(uint32_t slot_class) const;
    const SlotClassSpec& class_spec(uint32_t slot_class) const { return classes_[slot_class].spec; }

    // Null: nobody. The observer outlives the cache, or is taken away before it ends.
    void observe(CacheObserver* observer) { observer_ = observer; }

    size_t page_count() const { return pages_.size() - classes_.size(); }
    const PageSpec& page_spec(PageId page) const { return pages_[page].spec; }
    size_t class_count() const { return classes_.size(); }

    const CacheCounters& counters() const { return counters_; }
    const std::vector<uint64_t>& evictions_by_group() const { return evictions_by_group_; }
    uint64_t memory_bytes() const;

private:
    enum class PageState : uint8_t { kAbsent, kLoading, kLoaded };

    struct Page {
        PageSpec spec;
        PageState state = PageState::kAbsent;
        bool promised = false;   // prefetched, not demanded since
        bool withdrawn = false;  // while loading: the promise was taken back
        uint16_t slices_left = 0;
        uint32_t slices_here = 0;  // one bit a slice, while loading
        uint32_t pins = 0;
        SlotIndex slot = kNoSlot;
        Status failure;               // the first that a slice of the load in hand, or of the last load, met
        PageId older = 0, newer = 0;  // neighbours in the class's list; the page itself when it is in none
    };
    struct SlotClass {
        SlotClassSpec spec;
        std::vector<MemoryRegion> memory;
        uint32_t slots_a_piece = 0;
        std::vector<SlotIndex> free_slots;
        PageId list_head = 0;  // sentinel page: newer = least recently used, older = most recently used
    };

    struct WaitForReads {
        void operator()(storage::BlockReader* reader) const;
    };

    SlotCache(std::vector<PageSpec> pages, storage::BlockReader& reader);
    Status add_class(const SlotClassSpec& spec, const SlotMemory& memory);
    void commit_in_background();

    Found pin(PageId id);
    Status load_missing();
    Status find_slots();
    Status wait_for_slot(PageId id);
    void promise(std::span<const PageId> guesses);
    void start_load(std::span<const PageId> pages);
    Status submit_reads();
    void queue_slice(PageId id, size_t index);
    bool take_slot(PageId id, bool for_demand);
    PageId find_victim(PageId wanted, bool for_demand);
    PageId oldest(uint32_t slot_class) const;
    static bool may_leave(const Page& page) {
        return page.state == PageState::kLoaded && page.pins == 0 && !page.promised;
    }
    void note_may_leave(PageId id) { forecast_.set_may_leave(id, may_leave(pages_[id])); }
    void let_go(PageId id);
    void evict(PageId id);
    void drop(PageId id);
    Status drain(bool block);
    void finish_slice(const storage::BlockCompletion& completion);
    void finish_load(PageId id);

    void link_newest(PageId id);
    void unlink(PageId id);

    std::vector<SlotClass> classes_;
    BackgroundCommit commit_;  // of their memory, and ended before it
    std::vector<Page> pages_;  // the real ones, then one sentinel for each class
    // Not owned; after the memory, since it is awaited first.
    std::unique_ptr<storage::BlockReader, WaitForReads> reader_;
    std::vector<PageId> missing_;   // scratch of acquire
    std::vector<Found> found_;      // the same
    std::vector<PageId> promised_;  // scratch of promise
    UseForecast forecast_;
    CacheObserver* observer_ = nullptr;
    std::vector<storage::BlockCompletion> completions_;
    std::vector<storage::BlockRead> reads_;
    CacheCounters counters_;
    std::vector<uint64_t> evictions_by_group_;
};

}  // namespace hypura::residency
