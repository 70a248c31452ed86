// Threads that write to a device, on the one device that every machine has: the processor.
#include "engine/device_writer.h"

#include "engine/llama_handles.h"
#include "engine/llama_library.h"

#include <ggml-backend.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace hypura::engine {
namespace {

using testing::Each;
using testing::IsEmpty;
using testing::SizeIs;

constexpr size_t kBytes = 300'000;  // three pieces

class DeviceWriterTest : public testing::Test {
protected:
    DeviceWriterTest() : writer_(DeviceWriter::create(3).value()), source_(kBytes) {
        start_llama();
        context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true}));
        target_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I8, 2 * kBytes);
        ggml_backend_dev_t const processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        buffer_.reset(
            ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), ggml_backend_dev_buffer_type(processor)));
        ggml_backend_buffer_clear(buffer_.get(), 0);
        for (size_t i = 0; i < kBytes; ++i) source_[i] = static_cast<std::byte>(1 + i % 251);
    }

    // Load 0 fills the second half of the target, load 1 the first.
    std::vector<DeviceWriter::Load> both_halves() const {
        return {{{target_, kBytes, source_.data(), kBytes}}, {{target_, 0, source_.data(), kBytes}}};
    }
    void begin() {
        writer_->begin([this] { return both_halves(); });
    }
    std::vector<std::byte> half(size_t which) const {
        std::vector<std::byte> bytes(kBytes);
        ggml_backend_tensor_get(target_, bytes.data(), which * kBytes, kBytes);
        return bytes;
    }
    void wait_for(const auto& condition) const {
        for (int i = 0; i < 20000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::microseconds(500));
    }

    std::unique_ptr<DeviceWriter> writer_;
    std::vector<std::byte> source_;
    GgmlContextHandle context_;
    BufferHandle buffer_;
    ggml_tensor* target_ = nullptr;
};

// Nobody looks at the target before stop(): so the test is repeated with more time until it was enough.
TEST_F(DeviceWriterTest, WritesEverythingOnceItMay) {
    for (int ms = 1; writer_->written().size() < 6 && ms < 1000; ms *= 2) {
        begin();
        writer_->allow_writes();
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
        writer_->stop();
    }
    EXPECT_EQ(half(0), source_);
    EXPECT_EQ(half(1), source_);
    EXPECT_THAT(writer_->written(), SizeIs(6));
    EXPECT_THAT(writer_->left(), IsEmpty());
}

TEST_F(DeviceWriterTest, WritesNothingBefore) {
    std::atomic<bool> prepared = false;
    writer_->begin([&] {
        prepared = true;
        return both_halves();
    });
    wait_for([&] { return prepared.load(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // beyond what threads spin
    writer_->stop();
    EXPECT_THAT(writer_->written(), IsEmpty());
    ASSERT_THAT(writer_->left(), SizeIs(6));
    EXPECT_EQ(writer_->left().front().load, 0U);
    EXPECT_EQ(writer_->left().back().load, 1U);
    EXPECT_THAT(half(0), Each(std::byte{0}));
}

TEST_F(DeviceWriterTest, ThreadsThatFellAsleepGoOn) {
    for (int ms = 2; writer_->written().size() < 6 && ms < 1000; ms *= 2) {
        begin();
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));  // beyond what threads spin
        writer_->allow_writes();
        std::this_thread::sleep_for(std::chrono::milliseconds(ms));
        writer_->stop();
    }
    EXPECT_THAT(writer_->written(), SizeIs(6));
}

// Wherever it is stopped: what counts as written is, and written and left are everything, in order.
TEST_F(DeviceWriterTest, StopsAnywhereBetweenTwoPieces) {
    for (int round = 0; round < 300; ++round) {
        ggml_backend_buffer_clear(buffer_.get(), 0);
        begin();
        if (round % 3 > 0) writer_->allow_writes();
        if (round % 2 > 0) std::this_thread::sleep_for(std::chrono::microseconds(round));
        writer_->stop();
        const size_t pieces = writer_->written().size() + writer_->left().size();
        ASSERT_TRUE(pieces == 0 || pieces == 6) << pieces;  // 0: no thread had woken up
        for (const DeviceWriter::Piece& piece : writer_->written()) {
            std::vector<std::byte> bytes(piece.part.bytes);
            ggml_backend_tensor_get(target_, bytes.data(), piece.part.offset, bytes.size());
            ASSERT_TRUE(std::ranges::equal(bytes, std::span(piece.part.data, piece.part.bytes)));
        }
    }
}

TEST_F(DeviceWriterTest, EndsWithAnOrderInHand) {
    begin();
    writer_->allow_writes();
    writer_.reset();
}

}  // namespace
}  // namespace hypura::engine
