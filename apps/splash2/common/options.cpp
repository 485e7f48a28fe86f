#include "apps/splash2/common/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

namespace splash2 {

struct Options::Impl {
  explicit Impl(const std::string& name, const std::string& purpose) : program(name), app(purpose, name) {}
  std::string program;
  CLI::App app;
};

namespace {

[[noreturn]] void refuse(const std::string& flag, const std::string& text, const std::string& right) {
  throw CLI::ValidationError(flag, fmt::format("'{}' is not {}", text, right));
}

std::string describe(const WholeRange& range) {
  return fmt::format("{} from {} to {}", range.power_of_two ? "a power of two" : "a whole number", range.least, range.most);
}

std::int64_t parse_whole(const std::string& flag, const std::string& text, const WholeRange& range) {
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const bool right = error == std::errc{} && stop == end && number >= range.least && number <= range.most &&
                     (!range.power_of_two || (number & (number - 1)) == 0);
  if (!right) refuse(flag, text, describe(range));
  return number;
}

double parse_real(const std::string& flag, const std::string& text, double above, double most) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stop != end || !std::isfinite(number) || number <= above || number > most) {
    refuse(flag, text, fmt::format("a number above {:g}, at most {:g}", above, most));
  }
  return number;
}

}  // namespace

Options::Options(const std::string& program, const std::string& purpose) : impl_(std::make_unique<Impl>(program, purpose)) {
  impl_->app.set_help_flag("-h,--help", "Print this and end.");
  impl_->app.get_formatter()->column_width(28);
  impl_->app.get_formatter()->label("OPTIONS", "OPTIONS");
}

Options::~Options() = default;

void Options::whole(const std::string& flag, std::int64_t& value, WholeRange range, const std::string& value_name,
                    const std::string& help) {
  impl_->app
      .add_option_function<std::string>(
          flag, [flag, range, &value](const std::string& text) { value = parse_whole(flag, text, range); }, help)
      ->option_text(value == 0 ? value_name : fmt::format("{} [{}]", value_name, value));
}

void Options::real(const std::string& flag, double& value, double above, double most, const std::string& value_name,
                   const std::string& help) {
  impl_->app
      .add_option_function<std::string>(
          flag, [flag, above, most, &value](const std::string& text) { value = parse_real(flag, text, above, most); }, help)
      ->option_text(fmt::format("{} [{:g}]", value_name, value));
}

void Options::choice(const std::string& flag, std::string& value, const std::vector<std::string>& choices, const std::string& help) {
  impl_->app
      .add_option_function<std::string>(
          flag,
          [flag, choices, &value](const std::string& text) {
            if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
              refuse(flag, text, fmt::format("one of {}", fmt::join(choices, ", ")));
            }
            value = text;
          },
          help)
      ->option_text(fmt::format("{} [{}]", fmt::join(choices, "|"), value));
}

void Options::text(const std::string& flag, std::string& value, const std::string& value_name, const std::string& help) {
  impl_->app.add_option(flag, value, help)->option_text(value.empty() ? value_name : fmt::format("{} [{}]", value_name, value));
}

void Options::on(const std::string& flag, bool& value, const std::string& help) { impl_->app.add_flag(flag, value, help); }

void Options::footer(const std::string& text) {
  impl_->app.footer(text +
                    "\nExit status: 0 if the answer is right or was not checked; 1 if it is wrong or the run failed; 2 if the command line "
                    "cannot be obeyed.");
}

void Options::parse(int argc, const char* const* argv) {
  try {
    impl_->app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    throw UsageError(impl_->app.help(), 0);
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}: {}\nSee {} --help.\n", impl_->program, error.what(), impl_->program), 2);
  }
}

}  // namespace splash2
