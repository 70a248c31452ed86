// Uploads beside a computation, on the one device that every machine has: the processor.
#include "engine/upload_queue.h"

#include "engine/llama_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace hypura::engine {
namespace {

constexpr size_t kBytes = 1'000'000;  // of a transfer: four pieces

// By as many threads that write directly; 0: by the device's queue.
class UploadQueueTest : public testing::TestWithParam<uint32_t> {
protected:
    UploadQueueTest() : context_(ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = true})) {
        start_llama();
        ggml_backend_dev_t const processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        queue_ = UploadQueue::create(processor, GetParam()).value();
        buffer_.reset(ggml_backend_buft_alloc_buffer(ggml_backend_dev_buffer_type(processor), 20 * kBytes));
    }
    // In the device's buffer, at that place.
    ggml_tensor* tensor(size_t place, size_t transfers = 1) {
        ggml_tensor* const made =
            ggml_new_tensor_1d(context_.get(), GGML_TYPE_I8, static_cast<int64_t>(transfers * kBytes));
        made->buffer = buffer_.get();
        made->data = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer_.get())) + place * kBytes;
        return made;
    }
    const std::byte* source(uint8_t value) {
        return sources_.emplace_back(kBytes, static_cast<std::byte>(value)).data();
    }
    static bool is_all(const ggml_tensor* tensor, size_t place, uint8_t value) {
        return std::ranges::all_of(std::span(static_cast<const uint8_t*>(tensor->data) + place * kBytes, kBytes),
                                   [&](uint8_t byte) { return byte == value; });
    }

    GgmlContextHandle context_;
    BufferHandle buffer_;
    std::deque<std::vector<std::byte>> sources_;
    std::unique_ptr<UploadQueue> queue_;  // ends before what it reads
};

TEST_P(UploadQueueTest, WhatWasWaitedForHasCome) {
    ggml_tensor* const target = tensor(0, 8);
    std::vector<UploadQueue::Ticket> tickets;
    for (uint8_t i = 0; i < 8; ++i)
        tickets.push_back(queue_->push({.to = target, .offset = i * kBytes, .data = source(i + 1), .bytes = kBytes}));
    ASSERT_TRUE(queue_->wait(tickets[2]));
    for (uint8_t i = 0; i < 3; ++i) EXPECT_TRUE(is_all(target, i, i + 1));
    ASSERT_TRUE(queue_->wait(tickets[7]));
    for (uint8_t i = 3; i < 8; ++i) EXPECT_TRUE(is_all(target, i, i + 1));
    EXPECT_TRUE(queue_->wait(tickets[0]));  // once more
}

TEST_P(UploadQueueTest, ACopyWithinTheDeviceComesBehindWhatWasPushedBefore) {
    for (uint8_t round = 1; round < 50; ++round) {
        ggml_tensor* const first = tensor(0);
        ggml_tensor* const second = tensor(1);
        queue_->push({.to = first, .data = source(round), .bytes = kBytes});
        const UploadQueue::Ticket copied = queue_->push({.to = second, .from = first});
        queue_->push({.to = tensor(2), .data = source(0), .bytes = kBytes});
        ASSERT_TRUE(queue_->wait(copied));
        ASSERT_TRUE(is_all(second, 0, round)) << int{round};
        ASSERT_TRUE(queue_->wait(copied + 1));
    }
}

TEST_P(UploadQueueTest, WhatWasTakenBackIsNotReadAnyMore) {
    for (int round = 0; round < 50; ++round) {
        ggml_tensor* const target = tensor(0, 8);
        std::vector<std::vector<std::byte>> sources(8, std::vector<std::byte>(kBytes, std::byte{1}));
        std::vector<UploadQueue::Ticket> tickets;
        for (size_t i = 0; i < 8; ++i)
            tickets.push_back(
                queue_->push({.to = target, .offset = i * kBytes, .data = sources[i].data(), .bytes = kBytes}));
        const std::vector<UploadQueue::Ticket> recalled = queue_->recall();
        sources.clear();  // the sanitizers see who reads it
        EXPECT_TRUE(std::ranges::is_sorted(recalled));
        for (size_t i = 0; i < 8; ++i)
            if (!std::ranges::contains(recalled, tickets[i])) {
                EXPECT_TRUE(is_all(target, i, 1));
            }
        std::fill_n(static_cast<std::byte*>(target->data), 8 * kBytes, std::byte{0});
        ASSERT_TRUE(queue_->wait(tickets[7]));  // has come or never will: nobody waits for ever
    }
}

TEST_P(UploadQueueTest, EndsWithWorkInHand) {
    for (uint8_t i = 0; i < 8; ++i)
        queue_->push({.to = tensor(0, 8), .offset = i * kBytes, .data = source(i), .bytes = kBytes});
    queue_.reset();
}

INSTANTIATE_TEST_SUITE_P(Ways, UploadQueueTest, testing::Values(0, 1, 3), [](const auto& way) {
    return way.param == 0 ? "Queue" : std::format("Writers{}", way.param);
});

}  // namespace
}  // namespace hypura::engine
