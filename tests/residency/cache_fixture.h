// A slot cache over a temporary file of known bytes, with a reader whose completions the test controls.
#pragma once

#include "base/bytes.h"
#include "residency/slot_cache.h"
#include "storage/fault_reader.h"
#include "storage/reader.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <format>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace hypura::residency {

// Reads in the calling thread when asked to collect. While `held`, nothing comes back before somebody blocks for it,
// and then one read at a time, in order: reads in flight stay in flight as long as the test wants.
class ManualReader final : public storage::RawReader {
public:
    bool held = false;
    std::optional<uint64_t> broken_offset;  // reads that cover it fail with EIO

    Status submit(std::span<const storage::RawRead> reads) override {
        queue_.insert(queue_.end(), reads.begin(), reads.end());
        return {};
    }
    Status collect(std::vector<storage::RawCompletion>& out, bool block) override {
        size_t count = held ? std::min<size_t>(block ? 1 : 0, queue_.size()) : queue_.size();
        for (; count > 0; --count) {
            out.push_back(perform(queue_.front()));
            queue_.pop_front();
        }
        return {};
    }
    size_t in_flight() const override { return queue_.size(); }
    std::string_view name() const override { return "manual"; }
    size_t submitted_behind() const {
        return static_cast<size_t>(std::ranges::count_if(queue_, &storage::RawRead::behind));
    }

private:
    storage::RawCompletion perform(const storage::RawRead& read) const {
        if (broken_offset && read.offset <= *broken_offset && *broken_offset < read.offset + read.bytes)
            return {read.tag, -EIO};
        const ssize_t got = ::pread(read.fd, read.destination, read.bytes, static_cast<off_t>(read.offset));
        return {read.tag, got < 0 ? -errno : got};
    }

    std::deque<storage::RawRead> queue_;
};

// Pages of two slices each, in as many classes as a test has slot counts: page p belongs to class p % classes.
class CacheFixture : public testing::Test {
protected:
    static constexpr uint64_t kSlack = storage::BlockReader::kSlackBytes;
    static constexpr uint64_t kFileStride = 3 * 4096 + 77;  // from slice to slice
    static constexpr uint64_t kMostBytes = 9000;
    static constexpr uint64_t kSlotStride = align_up(2 * kMostBytes + 3 * kSlack, 4096);

    bool experts_ = false;  // rather than dense weights
    uint32_t pages_a_layer_ = 1;

    void open(uint32_t pages, const std::vector<uint32_t>& slots, std::unique_ptr<storage::RawReader> raw) {
        make_file(pages);
        cache_.reset();  // before its reader
        std::vector<storage::DirectFile> files;
        files.push_back(storage::DirectFile::open(dir_.file("model")).value());
        reader_ = std::make_unique<storage::BlockReader>(std::move(raw), std::move(files));
        std::vector<SlotClassSpec> classes;
        for (const uint32_t count : slots) classes.push_back({kSlotStride, count});
        const auto class_count = static_cast<uint32_t>(slots.size());
        std::vector<PageSpec> specs;
        for (PageId id = 0; id < pages; ++id)
            specs.push_back({id % class_count, id / class_count / pages_a_layer_, slices_of(id),
                             experts_ ? static_cast<int32_t>(id) : -1});
        cache_.emplace(SlotCache::create(std::move(classes), specs, *reader_).value());
        specs_ = std::move(specs);
    }

    // The same over a ManualReader.
    void open_manual(uint32_t pages, const std::vector<uint32_t>& slots) {
        auto raw = std::make_unique<ManualReader>();
        manual_ = raw.get();
        open(pages, slots, std::move(raw));
    }

    Status acquire(std::vector<PageId> pages) { return cache_->acquire(pages); }
    Status wait(std::vector<PageId> pages) { return cache_->wait(pages); }
    void release(std::vector<PageId> pages) { cache_->release(pages); }
    bool prefetch(PageId page) { return cache_->prefetch(page).value(); }
    Status bring(std::vector<PageId> pages) {
        HYPURA_TRY(acquire(pages));
        return wait(pages);
    }
    // Acquire, wait, compare, release.
    void use(std::vector<PageId> pages) {
        const Status brought = bring(pages);
        ASSERT_TRUE(brought) << brought.error().message;
        for (const PageId page : pages) EXPECT_TRUE(bytes_right(page)) << page;
        release(pages);
    }

    bool present(PageId page) const { return cache_->slot_of(page) != kNoSlot; }
    std::vector<PageId> present_pages() const {
        std::vector<PageId> pages;
        for (PageId page = 0; page < specs_.size(); ++page)
            if (present(page)) pages.push_back(page);
        return pages;
    }
    bool bytes_right(PageId page) const {
        const std::byte* slot = cache_->slot_memory(specs_[page].slot_class, cache_->slot_of(page));
        return std::ranges::all_of(specs_[page].slices, [&](const SliceSpec& slice) {
            const auto* begin = reinterpret_cast<const char*>(slot + slice.slot_offset);
            return std::string_view(begin, slice.bytes) == std::string_view(content_).substr(slice.offset, slice.bytes);
        });
    }
    uint64_t offset_of(PageId page) const { return specs_[page].slices.front().offset; }
    const CacheCounters& counters() const { return cache_->counters(); }

    test::TempDir dir_;
    std::string content_;
    std::vector<std::string> names_;
    std::vector<PageSpec> specs_;
    std::unique_ptr<storage::BlockReader> reader_;
    ManualReader* manual_ = nullptr;
    std::optional<SlotCache> cache_;

private:
    void make_file(uint32_t pages) {
        std::mt19937 random(7);
        content_.resize((2 * pages + 1) * kFileStride);
        std::ranges::generate(content_, [&] { return static_cast<char>(random()); });
        dir_.write("model", content_);
        names_.clear();
        for (uint32_t page = 0; page < pages; ++page) names_.push_back(std::format("page.{}", page));
    }
    std::vector<SliceSpec> slices_of(PageId page) const {
        const uint64_t first_bytes = 1 + page * 97 % kMostBytes;
        return {{0, (2 * page) * kFileStride + 13, first_bytes, kSlack, names_[page]},
                {0, (2 * page + 1) * kFileStride, 500 + page, 2 * kSlack + first_bytes, names_[page]}};
    }
};

}  // namespace hypura::residency
