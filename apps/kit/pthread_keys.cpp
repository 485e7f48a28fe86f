#include "apps/kit/pthread_keys.hpp"

#include <cerrno>
#include <climits>
#include <vector>

#include "apps/kit/pthreads.hpp"
#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

namespace {

KeyTable* g_table = nullptr;
thread_local std::vector<void*>* t_values = nullptr;  // deleted when the thread ends

class TableGuard {
 public:
  TableGuard() : key_(*Pthreads::find()->key_of(&g_table->guard)) {
    static_cast<void>(error_of(Pthreads::find()->sync().lock(key_, detail::this_thread_id()), "pthread_key_create()"));
  }
  ~TableGuard() { static_cast<void>(error_of(Pthreads::find()->sync().unlock(key_, detail::this_thread_id()), "pthread_key_create()")); }
  TableGuard(const TableGuard&) = delete;
  TableGuard& operator=(const TableGuard&) = delete;

 private:
  std::uint64_t key_;
};

}  // namespace

void Keys::open(KeyTable* table) { g_table = table; }

int Keys::create(pthread_key_t* key, void (*destructor)(void*)) {
  const std::uint64_t number = in_runtime([=]() -> std::uint64_t {
    const TableGuard guard;
    if (g_table->used == KeyTable::kMost) return KeyTable::kMost;
    g_table->keys[g_table->used].destructor = destructor;
    return g_table->used++;
  });
  if (number == KeyTable::kMost) return EAGAIN;
  *key = kFirst + static_cast<pthread_key_t>(number);
  return 0;
}

int Keys::remove(pthread_key_t key) {
  const std::uint64_t number = key - kFirst;
  return in_runtime([=] {
    const TableGuard guard;
    if (number >= g_table->used || g_table->keys[number].deleted != 0) return EINVAL;
    g_table->keys[number].deleted = 1;
    return 0;
  });
}

void* Keys::get(pthread_key_t key) {
  const std::size_t number = key - kFirst;
  return t_values != nullptr && number < t_values->size() ? (*t_values)[number] : nullptr;
}

int Keys::set(pthread_key_t key, void* value) {
  const std::size_t number = key - kFirst;
  if (number >= KeyTable::kMost) return EINVAL;
  if (t_values == nullptr || number >= t_values->size()) {
    in_runtime([=] {
      if (t_values == nullptr) t_values = new std::vector<void*>;
      t_values->resize(number + 1);
    });
  }
  (*t_values)[number] = value;
  return 0;
}

void Keys::run_destructors() {
  bool ran = t_values != nullptr;
  for (int round = 0; ran && round < PTHREAD_DESTRUCTOR_ITERATIONS; ++round) {
    ran = false;
    for (std::size_t i = 0; i < t_values->size(); ++i) {
      void* const value = (*t_values)[i];
      if (value == nullptr) continue;
      (*t_values)[i] = nullptr;
      const auto destructor = in_runtime([=] {
        const TableGuard guard;  // what its creator wrote is here
        return g_table->keys[i].deleted != 0 ? nullptr : g_table->keys[i].destructor;
      });
      if (destructor == nullptr) continue;
      destructor(value);
      ran = true;
    }
  }
  in_runtime([] {
    delete t_values;
    t_values = nullptr;
  });
}

}  // namespace netvm::kit
