// C++: std::thread and what belongs to it, containers, atomics, exceptions, objects with constructors.
#include <atomic>
#include <barrier>
#include <condition_variable>
#include <fstream>
#include <future>
#include <iostream>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <semaphore>
#include <shared_mutex>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "check.h"

namespace {

constexpr int kThreads = 5;

// Made before main(), used and changed by all.
std::vector<int> global_numbers(2000, 3);
std::map<std::string, int> global_map{{"a first key that is too long for a small string", 1}, {"b", 2}};
const std::string global_text = "a text that is too long to lie in the object itself";
int constructed = [] { return 41; }() + 1;

struct Shape {
  virtual ~Shape() = default;
  virtual int area() const = 0;
};
struct Square : Shape {
  explicit Square(int s) : side(s) {}
  int area() const override { return side * side; }
  int side;
};

template <class F>
void on_threads(F f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(f, i);
  for (auto& thread : threads) thread.join();
}

void objects_and_containers() {
  std::mutex mutex;
  std::vector<std::unique_ptr<Shape>> shapes;
  std::string text;
  int caught = 0;
  on_threads([&](int i) {
    CHECK(constructed == 42 && global_text.size() == 51);
    CHECK(std::accumulate(global_numbers.begin(), global_numbers.end(), 0) >= 6000);
    try {
      if (i % 2 == 0) throw std::runtime_error("thrown by a thread");
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      CHECK(std::string(error.what()) == "thrown by a thread");
      ++caught;
    }
    const std::lock_guard lock(mutex);
    shapes.push_back(std::make_unique<Square>(i));
    global_map["from thread " + std::to_string(i) + " with a long key"] = i;
    global_numbers.push_back(i);
    std::ostringstream line;
    line << "thread " << i << "; ";
    text += line.str();
  });
  CHECK(caught == 3 && shapes.size() == kThreads && global_map.size() == 2 + kThreads);
  CHECK(text.size() == kThreads * std::string("thread 0; ").size());
  int area = 0;
  for (const auto& shape : shapes) area += shape->area();
  CHECK(area == 30);
}

void locks() {
  std::mutex mutex;
  std::recursive_mutex recursive;
  std::timed_mutex timed;
  std::shared_mutex shared;
  std::condition_variable condition;
  std::condition_variable_any any;
  std::once_flag once;
  int here = 0;
  int onces = 0;
  int total = 0;
  on_threads([&](int i) {
    std::call_once(once, [&] { ++onces; });
    {
      std::unique_lock lock(mutex);
      ++here;
      condition.notify_all();
      CHECK(condition.wait_for(lock, std::chrono::seconds(20), [&] { return here >= kThreads; }));
    }
    {
      const std::scoped_lock both(recursive, timed);
      const std::lock_guard again(recursive);
      total += i;
    }
    {
      const std::shared_lock reader(shared);
      CHECK(total >= 0);
    }
    const std::unique_lock writer(shared);
    ++here;
    any.notify_all();
  });
  CHECK(onces == 1 && total == 10 && here == 2 * kThreads);
  CHECK(timed.try_lock_for(std::chrono::milliseconds(10)));
  timed.unlock();
  std::unique_lock lock(shared);
  CHECK(any.wait_for(lock, std::chrono::milliseconds(10), [] { return false; }) == false);
}

void atomics() {
  std::atomic<long> sum{0};
  std::atomic<std::uint8_t> bytes[8] = {};
  std::atomic<bool> go{false};
  std::atomic<int> turn{0};
  std::atomic_flag flag = ATOMIC_FLAG_INIT;
  auto shared = std::make_shared<std::vector<int>>(100, 1);
  on_threads([&, shared](int i) {
    if (i == 0) {
      go = true;
      go.notify_all();
    }
    go.wait(false);
    for (int k = 0; k < 100; ++k) {
      sum += i;
      bytes[k % 8].fetch_add(1);
      const std::shared_ptr<std::vector<int>> copy = shared;
      CHECK(copy->size() == 100);
    }
    for (int now = turn.load(); now != i; now = turn.load()) turn.wait(now);
    ++turn;
    turn.notify_all();
    flag.test_and_set();
    flag.notify_all();
    flag.wait(false);
  });
  CHECK(sum == 1000 && turn == kThreads);
  int all = 0;
  for (auto& byte : bytes) all += byte;
  CHECK(all == (kThreads * 100) && shared.use_count() == 1);
}

void meetings() {
  int phases = 0;
  int seen[kThreads] = {};
  std::barrier barrier(kThreads, [&]() noexcept { ++phases; });
  std::latch latch(kThreads);
  std::counting_semaphore<4> semaphore(2);
  std::atomic<int> inside{0};
  on_threads([&](int i) {
    for (int round = 0; round < 5; ++round) {
      seen[i] = phases;
      barrier.arrive_and_wait();
      for (const int phase : seen) CHECK(phase == 2 * round);
      barrier.arrive_and_wait();
      semaphore.acquire();
      CHECK(++inside <= 2);
      --inside;
      semaphore.release();
    }
    latch.arrive_and_wait();
  });
  CHECK(phases == 10);
}

void futures() {
  auto one = std::async(std::launch::async, [] { return 7; });
  std::promise<std::string> promise;
  auto two = promise.get_future();
  std::thread setter([&] { promise.set_value("a value that is too long for a small string"); });
  auto three = std::async(std::launch::async, []() -> int { throw std::runtime_error("through a future"); });
  CHECK(one.get() == 7 && two.get().size() == 43);
  setter.join();
  bool thrown = false;
  try {
    static_cast<void>(three.get());
  } catch (const std::runtime_error& error) {
    thrown = std::string(error.what()) == "through a future";
  }
  CHECK(thrown);
  std::atomic<int> rounds{0};
  {
    std::jthread stops([&](std::stop_token token) {
      while (!token.stop_requested()) ++rounds;
    });
    while (rounds < 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(rounds >= 10);
}

// A new once_flag where another one was: its constructor is no call, so the memory alone tells.
void once_again() {
  int done = 0;
  const auto flag = std::make_unique<std::once_flag>();
  for (int i = 0; i < 3; ++i) {
    new (flag.get()) std::once_flag;
    on_threads([&](int) { std::call_once(*flag, [&] { ++done; }); });
    CHECK(done == i + 1);
    std::promise<int> promise;
    promise.set_value(i);
    CHECK(std::async(std::launch::async, [&] { return promise.get_future().get(); }).get() == i);
  }
}

struct Counted {
  Counted() { ++living; }
  ~Counted() { --living; }
  static std::atomic<int> living;
};
std::atomic<int> Counted::living{0};

void thread_locals() {
  static thread_local Counted counted;
  static_cast<void>(&counted);
  const int before = Counted::living;
  on_threads([](int) {
    static thread_local Counted mine;
    CHECK(Counted::living >= 2);
    static_cast<void>(&mine);
  });
  CHECK(Counted::living == before);
  std::mutex mutex;
  std::map<std::thread::id, int> ids;
  on_threads([&](int i) {
    const std::lock_guard lock(mutex);
    ids[std::this_thread::get_id()] = i;
  });
  CHECK(ids.size() == kThreads && ids.count(std::this_thread::get_id()) == 0);
}

void streams() {
  const std::string name = "/tmp/netvm_streams." + std::to_string(::getpid());
  std::ofstream(name) << "eins 2 drei\n" << std::string(100000, 'x') << "\n";
  on_threads([&](int) {
    std::ifstream file(name);
    std::string word;
    std::string line;
    int number = 0;
    CHECK(file >> word >> number && word == "eins" && number == 2);
    CHECK(std::getline(file, line) && std::getline(file, line) && line.size() == 100000);
    CHECK(!std::getline(file, line));
  });
  std::remove(name.c_str());
}

// What a thread of another node writes stays in the stream's buffer, which is shared, until the file itself is asked for.
int write_to_a_stream_of_another_node() {
  std::ofstream file("/dev/null");
  std::thread([&] { file << "flushed by the other node" << std::flush; }).join();
  return 0;
}

struct AtEnd {
  ~AtEnd() {
    if (global_map.size() == 2 + kThreads) std::cout << "cxx: passed" << std::endl;
  }
} at_end;

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "a stream of another node") return write_to_a_stream_of_another_node();
  objects_and_containers();
  locks();
  atomics();
  meetings();
  futures();
  once_again();
  thread_locals();
  streams();
  return 0;
}
