#include "batch_message.h"

#include <cstring>
#include <exception>
#include <type_traits>
#include <vector>

namespace ringtrain {
namespace {

class Writer {
 public:
  template <typename Number>
  void number(Number value) {
    static_assert(std::is_trivially_copyable_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  template <typename Container>
  void sequence(const Container& values) {
    number(static_cast<std::int64_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()),
                  values.size() * sizeof(typename Container::value_type));
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof(value)), sizeof(value));
    return value;
  }
  template <typename Container>
  void sequence(Container& values) {
    const auto count = static_cast<std::size_t>(number<std::int64_t>());
    constexpr std::size_t kSize = sizeof(typename Container::value_type);
    if (count > bytes_.size() / kSize) fail();
    values.resize(count);
    const char* from = take(count * kSize);
    if (count > 0) std::memcpy(values.data(), from, count * kSize);
  }
  void finish() const {
    if (at_ != bytes_.size()) fail();
  }

 private:
  [[noreturn]] static void fail() { throw DeviceError("a batch arrived damaged from rank 0"); }
  const char* take(std::size_t count) {
    if (count > bytes_.size() - at_) fail();
    const char* from = bytes_.data() + at_;
    at_ += count;
    return from;
  }

  const std::string& bytes_;
  std::size_t at_ = 0;
};

}  // namespace

std::string encode(const BatchMessage& message) {
  Writer out;
  out.number(message.kind);
  out.number(message.number);
  if (message.kind == BatchMessage::Kind::kError) {
    out.number(message.exit_code);
    out.sequence(message.error);
  }
  if (message.kind == BatchMessage::Kind::kBatch) {
    const LocalBatch& batch = message.batch;
    out.number(batch.rows);
    out.number(batch.tokens);
    out.number(batch.layout);
    out.number(batch.denominator);
    out.sequence(batch.inputs);
    out.sequence(batch.targets);
    out.sequence(batch.weights);
    out.sequence(batch.document_starts);
    out.sequence(batch.state_after);
    out.sequence(batch.metrics);
  }
  return out.take();
}

BatchMessage decode(const std::string& bytes) {
  Reader in(bytes);
  BatchMessage message;
  message.kind = in.number<BatchMessage::Kind>();
  message.number = in.number<std::int64_t>();
  if (message.kind == BatchMessage::Kind::kError) {
    message.exit_code = in.number<std::int64_t>();
    in.sequence(message.error);
  }
  if (message.kind == BatchMessage::Kind::kBatch) {
    LocalBatch& batch = message.batch;
    batch.rows = in.number<std::int64_t>();
    batch.tokens = in.number<std::int64_t>();
    batch.layout = in.number<std::size_t>();
    batch.denominator = in.number<double>();
    in.sequence(batch.inputs);
    in.sequence(batch.targets);
    in.sequence(batch.weights);
    in.sequence(batch.document_starts);
    in.sequence(batch.state_after);
    in.sequence(batch.metrics);
  }
  in.finish();
  return message;
}

BatchMessage describe_current_error() {
  BatchMessage message;
  message.kind = BatchMessage::Kind::kError;
  try {
    throw;
  } catch (const Error& error) {
    message.exit_code = error.exit_code();
    message.error = error.what();
  } catch (const std::exception& error) {  // such as memory that is not there
    message.exit_code = static_cast<std::int64_t>(ExitCode::kIo);
    message.error = std::string("reading the data failed: ") + error.what();
  }
  return message;
}

void throw_error(const BatchMessage& message) {
  throw_error(static_cast<ExitCode>(message.exit_code), message.error);
}

}  // namespace ringtrain
