// SPDX-License-Identifier: BSD-2-Clause
// Calls functions of the kinds of signature C++ has and C has not, three times each, and tells the values: signatures
//
//   g++ -std=c++17 -g -O0 -Wall -o signatures signatures.cpp        also: -O2, clang++
//
// The keys are demangled names without parameters; * stands for what every library names differently.
#include <memory>
#include <string>
#include <vector>

#include "values.h"

#define USE(value) __asm__ volatile("" : : "r"(&(value)) : "memory")
#define FLOAT "{'$float': %g}" // in a vector register

namespace shop {

enum class Size : uint8_t { Small = 1, Medium, Large = 200 };
enum class Change : int64_t { Down = -10000000000, Up = 10000000000 };

struct Point {
	int x;
	int y;
};

struct Named {
	std::string name;
	int count;
};

class Base {
public:
	explicit Base(int serial) : serial_(serial) {}
	virtual ~Base() = default;
	TRACED virtual int price(int amount) const { USE(amount); return serial_ * amount; }

protected:
	int serial_;
};

class Article : public Base {
public:
	Article(int serial, std::string title, double weight) : Base(serial), title_(std::move(title)), weight_(weight) {}
	TRACED int price(int amount) const override { USE(amount); return serial_ + amount; }
	TRACED const std::string &rename(const std::string &title) { USE(title); title_ = title; return title_; }
	TRACED static int counted(int n) { USE(n); return n; }
	TRACED bool operator()(unsigned n) const { USE(n); return n > 1; }

	std::string title_;
	double weight_;
	Point at_{3, -4};
};

TRACED size_t by_value(std::string s, int n) { USE(s); USE(n); return s.size(); }
TRACED size_t by_reference(const std::string &s, int n) { USE(s); USE(n); return s.size(); }
TRACED int references(int &a, const Point &p, Named &&n) { USE(a); USE(p); USE(n); a++; return p.x; }
TRACED Size enums(Size s, Change c, bool b) { USE(s); USE(c); USE(b); return s; }
TRACED Point structs(Point p, int n) { USE(p); USE(n); return {p.y, p.x + n}; }
TRACED int named(Named n, int m) { USE(n); USE(m); return n.count + m; }
TRACED std::string gives_string(int n) { std::string s = "given " + std::to_string(n); USE(s); return s; }
TRACED Named gives_named(const char *name, int n) { Named named{name, n}; USE(named); return named; }
TRACED double floats(double a, int n, float b) { USE(a); USE(n); USE(b); return a + static_cast<double>(b); }
TRACED int wide(char32_t c, char16_t d, wchar_t e) { USE(c); USE(d); USE(e); return 0; }
TRACED int unique(std::unique_ptr<Point> p, int n) { USE(p); USE(n); return p->x + n; }
TRACED size_t vectors(const std::vector<int> &v, int n) { USE(v); USE(n); return v.size(); }
TRACED int method_pointer(int (Article::*method)(int) const, int n) { USE(method); USE(n); return n; }

template <typename T> struct Holder {
	T held;
	TRACED T exchange(T value) { USE(value); T old = held; held = value; return old; }
};

template <typename T> TRACED T largest(T a, T b) { USE(a); USE(b); return a > b ? a : b; }

inline namespace v1 {
namespace {
TRACED int hidden(int n) { USE(n); return n; }
} // namespace
} // namespace v1

} // namespace shop

namespace {

const char *truth_value(bool b)
{
	return b ? "true" : "false";
}

void strings(int i)
{
	const std::string texts[] = {"short", "", "longer than fifteen bytes, so on the heap"};
	const std::string &s = texts[i];

	entry("shop::by_value", "'s': '%s', 'n': %d", s.c_str(), i);
	result("'retval': %zu", shop::by_value(s, i));
	entry("shop::by_reference", "'s': '%s', 'n': %d, 'len(s)': %zu", s.c_str(), i, s.size());
	result("'retval': %zu, 's': '%s'", shop::by_reference(s, i), s.c_str());
	entry("shop::gives_string*", "'n': %d", i);
	result("'retval': '%s'", shop::gives_string(i).c_str());

	shop::Named named = {s, 10 + i};
	entry("shop::named", "'n.name': '%s', 'n.count': %d, 'm': %d", s.c_str(), named.count, i);
	result("'retval': %d", shop::named(named, i));
	entry("shop::gives_named", "'name': '%s', 'n': %d", s.c_str(), i);
	named = shop::gives_named(s.c_str(), i);
	result("'retval.name': '%s', 'retval.count': %d", named.name.c_str(), named.count);
}

void values(int i)
{
	static const struct { shop::Size size; const char *name; } sizes[] = {
		{shop::Size::Small, "Small"}, {shop::Size::Medium, "Medium"}, {shop::Size::Large, "Large"}};
	const bool up = i == 1;
	const shop::Change change = up ? shop::Change::Up : shop::Change::Down;
	shop::Point point = {i, -100 - i};
	int number = 1000 + i;

	entry("shop::enums", "'s': {'$enum': '%s', '$value': %d}, 'c': {'$enum': '%s', '$value': %" PRId64 "}, 'b': %s",
		sizes[i].name,
	      static_cast<int>(sizes[i].size), up ? "Up" : "Down", static_cast<int64_t>(change), truth_value(up));
	shop::enums(sizes[i].size, change, up);
	result("'retval': {'$enum': '%s', '$value': %d}", sizes[i].name, static_cast<int>(sizes[i].size));
	entry("shop::references", "'a': %d, 'p.x': %d, 'p.y': %d, 'n.name': 'moved', 'n.count': %d", number, point.x,
		point.y, 5 + i);
	{
		const int returned = shop::references(number, point, shop::Named{"moved", 5 + i});
		result("'retval': %d, 'a': %d", returned, number);
	}
	entry("shop::structs", "'p.x': %d, 'p.y': %d, 'n': %d", point.x, point.y, 7 + i);
	{
		const shop::Point returned = shop::structs(point, 7 + i);
		result("'retval.x': %d, 'retval.y': %d, 'retval': {'x': %d, 'y': %d}", returned.x, returned.y, returned.x,
			returned.y);
	}
	entry("shop::floats", "'a': " FLOAT ", 'n': %d, 'b': " FLOAT, 0.5 + i, i, 2.25);
	result("'retval': " FLOAT, shop::floats(0.5 + i, i, 2.25F));
	entry("shop::wide", "'c': {'$char': '%c'}, 'd': {'$char': 'D'}, 'e': {'$char': '%c'}", 'a' + i, 'e' + i);
	result("'retval': %d", shop::wide(U'a' + static_cast<char32_t>(i), u'D', L'e' + i));
	entry("shop::unique", "'n': %d", i);
	result("'retval': %d", shop::unique(std::make_unique<shop::Point>(point), i));
	entry("shop::vectors", "'n': %d", i);
	result("'retval': %zu", shop::vectors(std::vector<int>(static_cast<size_t>(i)), i));
	entry("shop::method_pointer", "'n': %d", i);
	result("'retval': %d", shop::method_pointer(&shop::Article::price, i));
}

void methods(int i)
{
	shop::Article article(40 + i, "article", 0.75 + i);
	const shop::Base &base = article, plain(70 + i);
	shop::Holder<short> shorts = {static_cast<short>(-i)};
	shop::Holder<std::string> texts = {"old"};

	entry("shop::Article::price", "'this->title_': 'article', 'this->weight_': %g, 'this->at_.y': -4, "
		"'this->serial_': %d, 'amount': %d",
	      article.weight_, 40 + i, i);
	result("'retval': %d", base.price(i));
	entry("shop::Base::price", "'this->serial_': %d, 'amount': %d", 70 + i, 2 + i);
	result("'retval': %d", plain.price(2 + i));
	entry("shop::Article::rename", "'this->title_': 'article', 'title': 'renamed %d'", i);
	article.rename("renamed " + std::to_string(i));
	result("'retval': 'renamed %d', 'this->title_': 'renamed %d'", i, i);
	entry("shop::Article::counted", "'n': %d", 80 + i);
	result("'retval': %d", shop::Article::counted(80 + i));
	entry("shop::Article::operator()", "'this->title_': 'renamed %d', 'n': %d", i, i);
	result("'retval': %s", truth_value(article(static_cast<unsigned>(i))));
	entry("shop::Holder<short>::exchange", "'this->held': %d, 'value': %d", shorts.held, 300 + i);
	result("'retval': %d, 'this->held': %d", shorts.exchange(static_cast<short>(300 + i)), 300 + i);
	entry("shop::Holder<*string*>::exchange", "'this->held': 'old', 'value': 'new'");
	result("'retval': '%s', 'this->held': 'new'", texts.exchange("new").c_str());
	entry("shop::largest<long>", "'a': %d, 'b': %d", -i, 1 - 2 * i);
	result("'retval': %ld", shop::largest<long>(-i, 1 - 2 * i));
	entry("shop::largest<unsigned char>", "'a': %d, 'b': %d", 250 + i, 100);
	result("'retval': %d", shop::largest<unsigned char>(static_cast<unsigned char>(250 + i), 100));
	entry("shop::v1::(anonymous namespace)::hidden", "'n': %d", i);
	result("'retval': %d", shop::hidden(i));
}

} // namespace

int main()
{
	ready("signatures");
	for (int i = 0; i < 3; i++) {
		strings(i);
		values(i);
		methods(i);
	}
	print_told("signatures");
	return 0;
}
