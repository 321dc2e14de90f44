"""The words and facts of the world: few, so that a model of a million parameters can know them all."""

NAMES = (
    "Anna",
    "Tom",
    "Eva",
    "Max",
    "Lucy",
    "Ben",
    "Nina",
    "Paul",
    "Rosa",
    "Sam",
    "Clara",
    "Leo",
    "Maria",
    "Jack",
    "Olga",
    "Hugo",
)
ANIMALS = ("cat", "dog", "fox", "bear", "horse", "mouse", "rabbit", "wolf", "goat", "pig")
COLORS = ("red", "blue", "green", "black", "white", "yellow", "brown", "pink")
THINGS = ("lamp", "coin", "kite", "drum", "ring", "boat", "hat", "book", "key", "cup", "bell", "sword")
PLACES = ("river", "forest", "garden", "bridge", "market", "castle", "beach", "tower", "lake", "mill")
VERBS = ("sold", "found", "lost", "made", "saw")

OPPOSITES = {
    "older": "younger",
    "taller": "shorter",
    "faster": "slower",
    "richer": "poorer",
    "stronger": "weaker",
}
OPPOSITES |= {less: more for more, less in OPPOSITES.items()}

JOBS = {
    "baker": "bake bread",
    "farmer": "grow corn",
    "sailor": "sail ships",
    "teacher": "teach children",
    "doctor": "heal people",
    "painter": "paint pictures",
    "singer": "sing songs",
    "pilot": "fly planes",
    "gardener": "plant flowers",
    "tailor": "sew clothes",
    "hunter": "track deer",
    "fisher": "catch fish",
}

COUNTRIES = {
    "France": {"capital": "Paris", "language": "French", "continent": "Europe"},
    "Italy": {"capital": "Rome", "language": "Italian", "continent": "Europe"},
    "Spain": {"capital": "Madrid", "language": "Spanish", "continent": "Europe"},
    "Germany": {"capital": "Berlin", "language": "German", "continent": "Europe"},
    "Greece": {"capital": "Athens", "language": "Greek", "continent": "Europe"},
    "Poland": {"capital": "Warsaw", "language": "Polish", "continent": "Europe"},
    "Portugal": {"capital": "Lisbon", "language": "Portuguese", "continent": "Europe"},
    "Sweden": {"capital": "Stockholm", "language": "Swedish", "continent": "Europe"},
    "Japan": {"capital": "Tokyo", "language": "Japanese", "continent": "Asia"},
    "China": {"capital": "Beijing", "language": "Chinese", "continent": "Asia"},
    "Thailand": {"capital": "Bangkok", "language": "Thai", "continent": "Asia"},
    "Egypt": {"capital": "Cairo", "language": "Arabic", "continent": "Africa"},
    "Kenya": {"capital": "Nairobi", "language": "Swahili", "continent": "Africa"},
    "Brazil": {"capital": "Brasilia", "language": "Portuguese", "continent": "America"},
    "Peru": {"capital": "Lima", "language": "Spanish", "continent": "America"},
}

ELEMENTS = {
    "iron": {"symbol": "Fe", "number": "26"},
    "gold": {"symbol": "Au", "number": "79"},
    "silver": {"symbol": "Ag", "number": "47"},
    "copper": {"symbol": "Cu", "number": "29"},
    "zinc": {"symbol": "Zn", "number": "30"},
    "lead": {"symbol": "Pb", "number": "82"},
    "tin": {"symbol": "Sn", "number": "50"},
    "carbon": {"symbol": "C", "number": "6"},
    "oxygen": {"symbol": "O", "number": "8"},
    "helium": {"symbol": "He", "number": "2"},
    "neon": {"symbol": "Ne", "number": "10"},
    "sodium": {"symbol": "Na", "number": "11"},
}

CREATURES = {
    "frog": {"class": "amphibian", "legs": "4"},
    "ant": {"class": "insect", "legs": "6"},
    "bee": {"class": "insect", "legs": "6"},
    "spider": {"class": "arachnid", "legs": "8"},
    "eagle": {"class": "bird", "legs": "2"},
    "duck": {"class": "bird", "legs": "2"},
    "cow": {"class": "mammal", "legs": "4"},
    "whale": {"class": "mammal", "legs": "0"},
    "shark": {"class": "fish", "legs": "0"},
    "snake": {"class": "reptile", "legs": "0"},
    "lizard": {"class": "reptile", "legs": "4"},
    "crab": {"class": "crustacean", "legs": "10"},
}
