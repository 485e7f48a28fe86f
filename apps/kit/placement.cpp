#include "apps/kit/placement.hpp"

#include <fmt/format.h>

#include <charconv>

#include "netvm/netvm.hpp"

namespace netvm::kit {

namespace {

constexpr int kMostOfABlock = 1024;

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(fmt::format(
      "netvm: NETVM_PLACE: \"{}\": {}. Right are cyclic, block, block:N (N threads to a node) and a list of nodes such as 0,1,1,3", text,
      why));
}

int parse_number(std::string_view text, std::string_view whole, int least, int most) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) refuse(whole, fmt::format("\"{}\" is no number", text));
  if (value < least || value > most) refuse(whole, fmt::format("{} is not from {} to {}", value, least, most));
  return value;
}

}  // namespace

Placement Placement::parse(std::string_view text, int nodes, int threads_per_node) {
  Placement placement;
  constexpr std::string_view kBlock = "block";
  if (text.empty() || text == "cyclic" || text.substr(0, kBlock.size()) == kBlock) {
    int block = 1;
    if (text.size() > kBlock.size() && text[kBlock.size()] == ':' && text != "cyclic") {
      block = parse_number(text.substr(kBlock.size() + 1), text, 1, kMostOfABlock);
    } else if (text == kBlock) {
      block = threads_per_node;
    } else if (!text.empty() && text != "cyclic") {
      refuse(text, "there is no such placement");
    }
    for (int node = 0; node < nodes; ++node) placement.turn_.insert(placement.turn_.end(), static_cast<std::size_t>(block), node);
    return placement;
  }
  if (text.find_first_not_of("0123456789,") != std::string_view::npos) refuse(text, "there is no such placement");
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    placement.turn_.push_back(parse_number(text.substr(at, comma - at), text, 0, nodes - 1));
    at = comma + 1;
  }
  return placement;
}

}  // namespace netvm::kit
